"""Where a forest's sums start and how they end: base, scale, bias and average.

All in the type the forest sums in: float32 if it is ``single``, else float64.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import kernel
from kernels.forests.forest import Forest


@kernel
def finish(scale: NDArray[Any], bias: NDArray[Any], divisor: NDArray[Any], out: NDArray[Any]) -> None:
    """Turn sums into margins in place: ``(scale * sum + bias) / divisor``, without steps that are empty.

    Args:
        scale: [1] in ``out``'s type.
        bias: [K]; empty if scale is 1 and bias all 0.
        divisor: [K]; empty unless the forest averages.
        out: [n, K], the sums.
    """
    if len(bias):
        for row in range(out.shape[0]):
            for k in range(out.shape[1]):
                out[row, k] = scale[0] * out[row, k] + bias[k]
    if len(divisor):
        for row in range(out.shape[0]):
            for k in range(out.shape[1]):
                out[row, k] = out[row, k] / divisor[k]


@dataclass(frozen=True, slots=True, eq=False)
class Ending:
    """A forest's ``base`` and the arguments of ``finish``, in the type it sums in."""

    base: NDArray[Any]
    scale: NDArray[Any]
    bias: NDArray[Any]
    divisor: NDArray[Any]

    @classmethod
    def of(cls, forest: Forest) -> Self:
        """The ending of ``forest``; an output without trees is not divided."""
        dtype = sum_dtype(forest)
        plain = forest.scale == 1 and not forest.bias.any()
        return cls(
            base=forest.base.astype(dtype),
            scale=np.array([forest.scale], dtype),
            bias=forest.bias[: 0 if plain else None].astype(dtype),
            divisor=np.maximum(trees_per_output(forest), 1)[: None if forest.average else 0].astype(dtype),
        )

    def finish(self, out: NDArray[Any]) -> None:
        """Turn the sums in ``out`` ([n, K]) into margins in place."""
        if len(self.bias) or len(self.divisor):
            finish(self.scale, self.bias, self.divisor, out)


def sum_dtype(forest: Forest) -> np.dtype[Any]:
    """The type the forest sums in."""
    return np.dtype(np.float32 if forest.single else np.float64)


def trees_per_output(forest: Forest) -> NDArray[np.int64]:
    """How many trees add to each output; with vector leaves, every tree to every output."""
    if forest.leaf_value.shape[1] > 1:
        return np.full(forest.n_outputs, forest.n_trees, np.int64)
    return np.bincount(forest.tree_output, minlength=forest.n_outputs)
