"""Folding a feature's transform into the thresholds that it is compared with.

A split asks ``f(x) <= t`` of a transformed value. Where ``f`` never decreases, that is the same as
``x <= T`` of the raw one, ``T`` being the largest raw number whose transform passes. ``T`` is found by
bisection over the numbers of the raw type themselves, in order, with the real ``f``: whatever rounding
``f`` does is in ``T``, and scoring needs no transform at all.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Transform = Callable[[NDArray[Any]], NDArray[Any]]
"""Raw values of one type in, as many transformed values out."""
NEIGHBOURS = 32
"""Numbers on either side of a threshold that are tried, in case ``f`` decreases by a rounding error."""
PROBES = 4096
"""Numbers all over the axis that are tried likewise."""


class NotFoldable(ValueError):
    """The transform decreases somewhere, or makes a missing value of one that was not."""


def fold_thresholds(
    transform: Transform, thresholds: NDArray[np.float64], dtype: DTypeLike, *, less: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The thresholds of raw values that decide as ``thresholds`` do of transformed ones.

    Args:
        transform: Never decreases; what it makes of NaN is not asked here.
        thresholds: float64[n], no NaN.
        dtype: float32 or float64, the type of the raw values.
        less: Whether the test is ``f(x) < t`` instead of ``f(x) <= t``.

    Returns:
        float64[n]: the largest value of ``dtype`` that passes, so that ``x <= T`` is the test; and
        bool[n]: whether no value passes, not even -inf, where ``T`` is -inf and means nothing.

    Raises:
        NotFoldable: The transform is seen to decrease, or to answer NaN.
    """
    check_order(transform, dtype)
    passes = np.less if less else np.less_equal
    kind = ordinal_type(dtype)
    lowest, highest = (ordinals(np.array([end], dtype))[0] for end in (-np.inf, np.inf))
    passing = np.full(len(thresholds), lowest, kind)
    failing = np.full(len(thresholds), highest, kind)
    never = ~passes(transformed(transform, passing, dtype), thresholds)
    always = passes(transformed(transform, failing, dtype), thresholds)
    for _ in range(8 * kind.itemsize):
        middle = (passing & failing) + ((passing ^ failing) >> 1)
        passed = passes(transformed(transform, middle, dtype), thresholds)
        passing = np.where(passed, middle, passing)
        failing = np.where(passed, failing, middle)
    folded = np.where(always, highest, np.where(never, lowest, passing))
    check_neighbours(transform, folded, never, lambda values: passes(values, thresholds[:, None]), dtype)
    return values_of(folded, dtype).astype(np.float64), never


def check_order(transform: Transform, dtype: DTypeLike) -> None:
    """Try numbers all over the axis; raises ``NotFoldable``."""
    ends = ordinals(np.array([-np.inf, np.inf], dtype))
    probes = np.linspace(float(ends[0]), float(ends[1]), PROBES)[1:-1].astype(ordinal_type(dtype))
    small = ordinals(np.linspace(-1000, 1000, PROBES).astype(dtype))
    tried = np.unique(np.concatenate([ends, probes, small]))
    results = transformed(transform, tried, dtype)
    if np.isnan(results).any():
        where = values_of(tried, dtype)[np.isnan(results)][0]
        raise NotFoldable(f"the transform of {where} is missing, so no threshold stands for it; clip before")
    falls = np.flatnonzero(results[1:] < results[:-1])
    if len(falls):
        low, high = values_of(tried, dtype)[falls[0] : falls[0] + 2]
        raise NotFoldable(f"the transform decreases between {low} and {high}")


def check_neighbours(
    transform: Transform,
    folded: NDArray[Any],
    never: NDArray[np.bool_],
    passes: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    dtype: DTypeLike,
) -> None:
    """Try the numbers beside each threshold; raises ``NotFoldable``."""
    lowest, highest = ordinals(np.array([-np.inf, np.inf], dtype))
    steps = np.arange(-NEIGHBOURS, NEIGHBOURS + 1, dtype=folded.dtype)
    beside = np.minimum(np.maximum(folded, lowest + NEIGHBOURS), highest - NEIGHBOURS)[:, None] + steps
    expected = (beside <= folded[:, None]) & ~never[:, None]
    results = transformed(transform, beside.ravel(), dtype).reshape(beside.shape)
    if (wrong := passes(results) != expected).any():
        row, place = np.argwhere(wrong)[0]
        value = values_of(beside[row, place : place + 1], dtype)[0]
        raise NotFoldable(f"the transform decreases by a rounding error beside {value}")


def transformed(transform: Transform, places: NDArray[Any], dtype: DTypeLike) -> NDArray[np.float64]:
    """The transforms of the numbers at some places of the order."""
    with np.errstate(all="ignore"):
        return np.asarray(transform(values_of(places, dtype)), np.float64)


def ordinal_type(dtype: DTypeLike) -> np.dtype:
    """The integers that number the values of a float type."""
    return np.dtype(f"i{np.dtype(dtype).itemsize}")


def ordinals(values: NDArray[Any]) -> NDArray[Any]:
    """The place of each float among all of its type: integers in the same order, -0.0 before 0.0."""
    bits = values.view(ordinal_type(values.dtype))
    return np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)


def values_of(places: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """The inverse of ``ordinals``."""
    bits = np.where(places < 0, places ^ np.iinfo(places.dtype).max, places)
    return np.ascontiguousarray(bits).view(dtype)
