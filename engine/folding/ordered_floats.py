"""Floats in their order as integers, so that one can bisect over all of them.

The bit pattern of a positive float grows with it; of negative ones the pattern runs backwards. A
*key* turns those around: key(-x) = -key(x), and the next larger float has the next larger key.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

POINTS = 20_000


def keys_of(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """The keys of float32 or float64 values; -0.0 and 0.0 are both 0."""
    bits = values.view(np.int32 if values.dtype == np.float32 else np.int64).astype(np.int64)
    lowest = np.int64(np.iinfo(np.int32 if values.dtype == np.float32 else np.int64).min)
    return np.where(bits < 0, lowest - bits, bits)


def of_keys(keys: Any, dtype: np.dtype) -> Any:
    """The floats that have these keys (an array, or a single one)."""
    integer = np.int32 if dtype == np.float32 else np.int64
    keys = np.asarray(keys, np.int64)
    lowest = np.int64(np.iinfo(integer).min)
    bits = np.where(keys < 0, lowest - keys, keys)
    return bits.astype(integer).view(dtype)


def span(dtype: np.dtype, reach: float) -> tuple[int, int]:
    """The keys of the lowest and highest number whose exponent is ``reach`` of the greatest one's."""
    highest = np.array(np.finfo(dtype).max, dtype)
    if reach < 1:
        highest = np.power(highest.astype(np.float64), reach).astype(dtype)
    key = int(keys_of(highest.reshape(1))[0])
    return -key, key


def grid(dtype: np.dtype, reach: float) -> NDArray[np.floating]:
    """Numbers in ascending order: evenly over all keys, and densely where data usually lies."""
    low, high = span(dtype, reach)
    everywhere = of_keys(np.linspace(low, high, POINTS).astype(np.int64).clip(low, high), dtype)
    usual = np.concatenate([np.linspace(-width, width, POINTS) for width in (3.0, 1e3, 1e6)]).astype(dtype)
    edges = np.array([-1.0, 0.0, 1.0], dtype)  # where functions such as log1p end
    beside = [np.nextafter(edges, np.array(towards, dtype)) for towards in (-np.inf, np.inf)]
    return np.unique(np.concatenate([everywhere, usual, edges, *beside]))
