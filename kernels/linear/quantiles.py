"""The share of the training data below a number, or its normal score: scikit-learn's ``QuantileTransformer``.

A share is interpolated between the quantiles, from the left and from the right, and the mean of both counts:
at a quantile that comes several times they are apart. The arithmetic is ``numpy.interp``'s, step by step.

Equal quantiles are one *knot*, with one share for what lies below it and another for what lies above. All
knots of a model lie side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import inlined, kernel
from kernels.scores.normal import normal_quantile

PLACE, BELOW, ABOVE, SLOPE = 0, 1, 2, 3
"""Of a knot: the number, the share just below it and just above it, the rise from it to the next one."""
UNIFORM, NORMAL, NORMAL_OF_SINGLE = 0, 1, 2
"""Kinds of scores: the share, its normal score, the normal score of the share rounded to float32."""
LOWEST, HIGHEST = -5.199337582605575, 5.19933758270342
"""Ends of normal scores: those of 1e-7 - 2^-52 and of its difference from 1."""
MARGIN = 1e-8
"""Shares nearer to 0 or 1 than this have normal scores beyond the ends."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantiles:
    """A feature's knots and what is made of its share.

    Attributes:
        knots: float64[3, N], PLACE, BELOW and ABOVE of each knot, N at least 1; places ascend.
        low_end: Up to this number the share is 0.
        high_end: From this number on it is 1, but for those up to ``low_end``.
        kind: UNIFORM, NORMAL or NORMAL_OF_SINGLE.
    """

    knots: NDArray[np.float64]
    low_end: float
    high_end: float
    kind: int = UNIFORM

    @classmethod
    def of_values(
        cls, values: NDArray[np.float64], low_end: float, high_end: float, kind: int
    ) -> "Quantiles":
        """From quantiles [n], not descending, that are evenly spaced in shares from 0 to 1."""
        shares = np.linspace(0.0, 1.0, len(values))
        first = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
        last = np.append(first[1:], len(values)) - 1
        knots = np.vstack([values[first], shares[first], shares[last]])
        return cls(knots, low_end, high_end, kind)

    def fault(self) -> str | None:
        """What is wrong with them; None if they can be computed with."""
        if not self.knots.shape[1] or not (np.diff(self.knots[PLACE]) > 0).all():
            return "a term's quantiles do not ascend"
        return None


def knots_of(quantiles: Sequence[Quantiles | None]) -> NDArray[np.float64]:
    """All knots side by side with their slopes, C-order float64[4, N]."""
    parts = [_with_slopes(given.knots) for given in quantiles if given is not None]
    return np.ascontiguousarray(np.hstack([*parts, np.zeros((4, 0))]))


def _with_slopes(knots: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        slopes = (knots[BELOW, 1:] - knots[ABOVE, :-1]) / np.diff(knots[PLACE])
    return np.vstack([knots, np.append(slopes, 0.0)])


def quantile_arrays(quantiles: Sequence[Quantiles | None]) -> dict[str, NDArray[np.generic]]:
    """The quantiles of terms as arrays; none where no term has any."""
    if not any(quantiles):
        return {}
    ends = [(given.low_end, given.high_end) if given else (-np.inf, np.inf) for given in quantiles]
    return {
        "term_n_knots": np.array([given.knots.shape[1] if given else 0 for given in quantiles], np.int64),
        "term_ends": np.array(ends, np.float64),
        "term_score": np.array([given.kind if given else UNIFORM for given in quantiles], np.int64),
        "knots": np.hstack([given.knots for given in quantiles if given]),
    }


def quantiles_of(arrays: Mapping[str, NDArray[Any]], n_terms: int) -> list[Quantiles | None]:
    """The inverse of ``quantile_arrays``; raises ``KeyError``, or ``ValueError`` where arrays do not fit."""
    if "term_n_knots" not in arrays:
        return [None] * n_terms
    sizes, ends, kinds, knots = (
        arrays[name] for name in ("term_n_knots", "term_ends", "term_score", "knots")
    )
    typed = sizes.dtype == kinds.dtype == np.int64 and ends.dtype == knots.dtype == np.float64
    shaped = sizes.shape == kinds.shape == (n_terms,) and ends.shape == (n_terms, 2)
    if not typed or not shaped or (sizes < 0).any() or knots.shape != (3, sizes.sum()):
        raise ValueError("the quantiles of its terms do not fit together")
    parts = np.split(knots, np.cumsum(sizes), axis=1)
    return [
        Quantiles(part, low, high, kind) if size else None
        for part, size, (low, high), kind in zip(
            parts, sizes.tolist(), ends.tolist(), kinds.tolist(), strict=False
        )
    ]


@inlined
def quantile_score(
    x: float, first: int, size: int, low_end: float, high_end: float, kind: int, knots: NDArray[np.float64]
) -> float:
    """The share or normal score of a number (float64); NaN stays. ``knots`` from ``first`` on are its own.

    A share that rounding took out of [0, 1] has no normal score: NaN, as in scikit-learn.
    """
    if np.isnan(x):
        return x
    share = share_of(x, first, size, knots)
    if x >= high_end:
        share = 1.0
    if x <= low_end:
        share = 0.0
    if kind == UNIFORM:
        return share
    if kind == NORMAL_OF_SINGLE:
        share = np.float64(np.float32(share))
    if share < 0.0 or share > 1.0:
        return np.nan
    score = normal_quantile(min(max(share, MARGIN), 1.0 - MARGIN))
    return min(max(score, LOWEST), HIGHEST)


@inlined
def share_of(x: float, first: int, size: int, knots: NDArray[np.float64]) -> float:
    """The mean of both interpolations at a number (float64) that is not NaN."""
    place, end = 0, size  # the first knot that lies at x or above
    while place < end:
        middle = (place + end) >> 1
        if knots[PLACE, first + middle] < x:
            place = middle + 1
        else:
            end = middle
    knot = first + place
    if place == size:
        return knots[ABOVE, knot - 1]
    if knots[PLACE, knot] == x:
        return 0.5 * (knots[ABOVE, knot] + knots[BELOW, knot])
    if place == 0:
        return knots[BELOW, knot]
    slope = knots[SLOPE, knot - 1]
    from_left = slope * (x - knots[PLACE, knot - 1]) + knots[ABOVE, knot - 1]
    from_right = slope * (knots[PLACE, knot] - x) - knots[BELOW, knot]
    return 0.5 * (from_left - from_right)


@kernel
def score_numbers(
    x: NDArray[np.float64],
    low_end: float,
    high_end: float,
    kind: int,
    knots: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write the share or normal score of each number [n] to ``out``; ``knots``, float64[4, N], are theirs."""
    for i in range(len(x)):
        out[i] = quantile_score(x[i], 0, knots.shape[1], low_end, high_end, kind, knots)


def scores_of(x: NDArray[np.float64], quantiles: Quantiles) -> NDArray[np.float64]:
    """The shares or normal scores of numbers [n]."""
    out = np.empty(len(x))
    knots = knots_of([quantiles])
    score_numbers(x, quantiles.low_end, quantiles.high_end, quantiles.kind, knots, out)
    return out
