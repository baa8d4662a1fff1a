"""What happens to a feature before a linear model weighs it: impute, clip, scale, curve and scale, in order.

The curve is log1p, the power transform of Yeo and Johnson (Biometrika 87, 2000) or of Box and Cox (Journal of
the Royal Statistical Society B 26, 1964), a score by quantiles (``quantiles``), or none.

One parameter row per weighed term instead of generated code: a step that is not wanted has parameters that
change nothing. All in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import inlined
from kernels.linear.quantiles import Quantiles, quantile_score
from kernels.scores.exponential import expm1
from kernels.scores.logarithm import log, log1p

PLAIN, AFFINE, LOGARITHM, POWER, BOX_COX, QUANTILES = 0, 1, 2, 3, 4, 5
COLUMN = np.dtype(
    [
        ("impute", "f8"), ("low", "f8"), ("high", "f8"), ("curve_shift", "f8"), ("curve_factor", "f8"),
        ("power", "f8"), ("shift", "f8"), ("low_end", "f8"), ("high_end", "f8"), ("steps", "i8"),
        ("source", "i8"), ("knot", "i8"), ("n_knots", "i8"), ("score", "i8"),
    ],
    align=True,
)  # fmt: skip
"""The parameters of a term. ``steps`` says how much there is to do, from PLAIN to QUANTILES; ``power`` is of
either power transform; ``knot`` is the place of its first knot."""


@dataclass(frozen=True, slots=True)
class Transform:
    """The steps of one term: ``(curve((clip(impute(x)) - curve_shift) / curve_scale) - shift) / scale``.

    Attributes:
        impute: What a missing value (NaN) becomes; NaN leaves it missing, and the margin NaN.
        low: Smaller values become this; -inf for no limit.
        high: Larger values become this; inf for no limit.
        log1p: Whether the curve is the logarithm of 1 + x.
        shift: Subtracted, as the mean in standardising.
        scale: Divided by, as the standard deviation.
        curve_shift: Subtracted before the curve; 0 where there is none.
        curve_scale: Divided by before the curve; 1 where there is none.
        power: Exponent of Yeo and Johnson's curve; NaN for none.
        box_cox: Exponent of Box and Cox's curve, which is NaN from 0 down; NaN for none.
        quantiles: Of a score by quantiles; None for none.
    """

    impute: float = np.nan
    low: float = -np.inf
    high: float = np.inf
    log1p: bool = False
    shift: float = 0.0
    scale: float = 1.0
    curve_shift: float = 0.0
    curve_scale: float = 1.0
    power: float = np.nan
    box_cox: float = np.nan
    quantiles: Quantiles | None = None

    @property
    def steps(self) -> int:
        """How much there is to do beside the scale, which goes into the coefficient."""
        if self.log1p:
            return LOGARITHM
        if not np.isnan(self.power):
            return POWER
        if not np.isnan(self.box_cox):
            return BOX_COX
        if self.quantiles is not None:
            return QUANTILES
        plain = np.isnan(self.impute) and np.isinf(self.low) and np.isinf(self.high) and self.shift == 0
        return PLAIN if plain else AFFINE


def column_parameters(transforms: Sequence[Transform], sources: Sequence[int]) -> NDArray[Any]:
    """The parameters of each term as a row, COLUMN[T]; ``sources`` are the places of their features."""
    rows, knot = [], 0
    for t, source in zip(transforms, sources, strict=True):
        power = t.box_cox if t.steps == BOX_COX else t.power
        ends, n_knots, score = (0.0, 0.0), 0, 0
        if t.quantiles is not None:
            ends, score = (t.quantiles.low_end, t.quantiles.high_end), t.quantiles.kind
            n_knots = t.quantiles.knots.shape[1]
        curve = (t.curve_shift, 1.0 / t.curve_scale, power, t.shift, *ends)
        rows.append((t.impute, t.low, t.high, *curve, t.steps, source, knot, n_knots, score))
        knot += n_knots
    return np.array(rows, COLUMN)


@inlined
def affine(x: float, impute: float, low: float, high: float, shift: float) -> float:
    """A value (float64) after all steps of an AFFINE feature."""
    x = impute if np.isnan(x) else x
    x = low if x < low else x
    x = high if x > high else x
    return x - shift


@inlined
def logarithmic(
    x: float, impute: float, low: float, high: float, curve_shift: float, curve_factor: float, shift: float
) -> float:
    """A value (float64) after all steps of a LOGARITHM feature."""
    return log1p(affine(x, impute, low, high, curve_shift) * curve_factor) - shift


@inlined
def powered(
    x: float, impute: float, low: float, high: float, curve_shift: float, curve_factor: float,
    power: float, shift: float,
) -> float:  # fmt: skip
    """A value (float64) after all steps of a POWER feature."""
    return yeo_johnson(affine(x, impute, low, high, curve_shift) * curve_factor, power) - shift


@inlined
def box_coxed(
    x: float, impute: float, low: float, high: float, curve_shift: float, curve_factor: float,
    power: float, shift: float,
) -> float:  # fmt: skip
    """A value (float64) after all steps of a BOX_COX feature."""
    return box_cox(affine(x, impute, low, high, curve_shift) * curve_factor, power) - shift


@inlined
def scored(x: float, c: Any, knots: NDArray[np.float64]) -> float:
    """A value (float64) after all steps of a QUANTILES feature."""
    x = affine(x, c.impute, c.low, c.high, c.curve_shift) * c.curve_factor
    return quantile_score(x, c.knot, c.n_knots, c.low_end, c.high_end, c.score, knots) - c.shift


@inlined
def yeo_johnson(x: float, power: float) -> float:
    """``((1 + x)**power - 1) / power``, where x is negative ``-((1 - x)**(2 - power) - 1) / (2 - power)``."""
    negative = x < 0.0
    exponent = 2.0 - power if negative else power
    logarithm = log1p(abs(x))
    y = logarithm if exponent == 0.0 else expm1(exponent * logarithm) / exponent
    return -y if negative else y


@inlined
def box_cox(x: float, power: float) -> float:
    """``(x**power - 1) / power``, or the logarithm; NaN from 0 down."""
    logarithm = log(x)
    y = logarithm if power == 0.0 else expm1(power * logarithm) / power
    return y if x > 0.0 else np.nan


@inlined
def transformed(x: float, c: Any, knots: NDArray[np.float64]) -> float:
    """A value (float64) after the steps of its feature, whose COLUMN is ``c``, its knots in ``knots``."""
    if c.steps == AFFINE:
        return affine(x, c.impute, c.low, c.high, c.shift)
    if c.steps == LOGARITHM:
        return logarithmic(x, c.impute, c.low, c.high, c.curve_shift, c.curve_factor, c.shift)
    if c.steps == POWER:
        return powered(x, c.impute, c.low, c.high, c.curve_shift, c.curve_factor, c.power, c.shift)
    if c.steps == BOX_COX:
        return box_coxed(x, c.impute, c.low, c.high, c.curve_shift, c.curve_factor, c.power, c.shift)
    if c.steps == QUANTILES:
        return scored(x, c, knots)
    return x
