"""What happens to a feature before a linear model weighs it: impute, clip, log1p, scale, in this order.

One parameter row per weighed term instead of generated code: a step that is not wanted has parameters that
change nothing. All in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import inlined
from kernels.scores.logarithm import log1p

PLAIN, AFFINE, LOGARITHM = 0, 1, 2
COLUMN = np.dtype(
    [("impute", "f8"), ("low", "f8"), ("high", "f8"), ("shift", "f8"), ("steps", "i8"), ("source", "i8")],
    align=True,
)
"""The parameters of a term. ``steps`` says how much there is to do: PLAIN, AFFINE or LOGARITHM."""


@dataclass(frozen=True, slots=True)
class Transform:
    """The steps of one term: ``(log1p(clip(impute(x), low, high)) - shift) / scale``.

    Attributes:
        impute: What a missing value (NaN) becomes; NaN leaves it missing, and the margin NaN.
        low: Smaller values become this; -inf for no limit.
        high: Larger values become this; inf for no limit.
        log1p: Whether the logarithm of 1 + x is taken.
        shift: Subtracted, as the mean in standardising.
        scale: Divided by, as the standard deviation.
    """

    impute: float = np.nan
    low: float = -np.inf
    high: float = np.inf
    log1p: bool = False
    shift: float = 0.0
    scale: float = 1.0

    @property
    def steps(self) -> int:
        """How much there is to do beside the scale, which goes into the coefficient."""
        if self.log1p:
            return LOGARITHM
        plain = np.isnan(self.impute) and np.isinf(self.low) and np.isinf(self.high) and self.shift == 0
        return PLAIN if plain else AFFINE


def column_parameters(transforms: Sequence[Transform], sources: Sequence[int]) -> NDArray[Any]:
    """The parameters of each term as a row, COLUMN[T]; ``sources`` are the places of their features."""
    rows = [
        (t.impute, t.low, t.high, t.shift, t.steps, source)
        for t, source in zip(transforms, sources, strict=True)
    ]
    return np.array(rows, COLUMN)


@inlined
def affine(x: float, impute: float, low: float, high: float, shift: float) -> float:
    """A value (float64) after all steps of an AFFINE feature."""
    x = impute if np.isnan(x) else x
    x = low if x < low else x
    x = high if x > high else x
    return x - shift


@inlined
def logarithmic(x: float, impute: float, low: float, high: float, shift: float) -> float:
    """A value (float64) after all steps of a LOGARITHM feature."""
    return log1p(affine(x, impute, low, high, 0.0)) - shift


@inlined
def transformed(x: float, c: Any) -> float:
    """A value (float64) after the steps of its feature, whose COLUMN is ``c``."""
    if c.steps == AFFINE:
        return affine(x, c.impute, c.low, c.high, c.shift)
    if c.steps == LOGARITHM:
        return logarithmic(x, c.impute, c.low, c.high, c.shift)
    return x
