"""Which CUDA twin scores a forest: chosen as on the CPU, masks where they surely win, else by a trial."""

from numpy.typing import DTypeLike

from kernels.forests.binning import Unsuited
from kernels.forests.choice import ForestKernel, fastest, surely_fastest
from kernels.forests.forest import Forest
from kernels.gpu.interval_masks import GpuIntervalMasks
from kernels.gpu.traversal import GpuTraversal

TRIAL_ROWS = 1 << 14
"""Enough to keep a GPU busy; fewer rows are for the CPU anyway."""


def choose(forest: Forest, dtype: DTypeLike, *, trial_rows: int = TRIAL_ROWS) -> ForestKernel:
    """The twin for ``forest`` over features of ``dtype`` (float32 or float64)."""
    try:
        masks = GpuIntervalMasks(forest, dtype)
    except Unsuited:
        return GpuTraversal(forest)
    if surely_fastest(masks.n_lookups, masks.n_bytes, forest):
        return masks
    return fastest([masks, GpuTraversal(forest)], forest, dtype, trial_rows)
