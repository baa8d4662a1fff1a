"""Which CUDA twin scores a forest: walks over bins, unless its tables would be too large for them."""

from numpy.typing import DTypeLike

from kernels.forests.binning import Unsuited
from kernels.forests.choice import ForestKernel
from kernels.forests.forest import Forest
from kernels.gpu.binned_traversal import GpuBinnedTraversal
from kernels.gpu.traversal import GpuTraversal


def choose(forest: Forest, dtype: DTypeLike) -> ForestKernel:
    """The twin for ``forest`` over features of ``dtype`` (float32 or float64)."""
    try:
        return GpuBinnedTraversal(forest, dtype)
    except Unsuited:
        return GpuTraversal(forest, dtype)
