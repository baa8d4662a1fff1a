"""Small passes over one column on its way from Arrow's buffers into a block."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import kernel


@kernel
def count_odd(values: NDArray[Any], low: float, end: float) -> int:
    """How many of float[n] ``values`` are neither NaN nor a whole number from ``low`` to below ``end``."""
    odd = 0
    for row in range(len(values)):
        value = values[row]
        fits = (np.floor(value) == value) & (value >= low) & (value < end)
        odd += not (fits | np.isnan(value))
    return odd


@kernel
def look_up(indices: NDArray[np.int32], values: NDArray[Any], out: NDArray[Any]) -> None:
    """``out[i] = values[indices[i]]``, NaN for an index past the ends (as rows without a value may have).

    Args:
        indices: int32[n].
        values: float[D], what each entry of a dictionary stands for.
        out: float[n] of the same type.
    """
    missing = out.dtype.type(np.nan)
    size = len(values)
    for row in range(len(indices)):
        index = np.int64(indices[row])
        out[row] = values[index] if 0 <= index < size else missing
