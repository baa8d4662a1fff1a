"""The steps of a chain over one number: what a features file lists, and what is read off scikit-learn."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from engine.folding.quantiles import QuantileTransform, quantiles_of
from kernels.linear.quantiles import scores_of

Numbers = NDArray[np.float64]


class Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``(x - mean) / std``."""

    mean: float = 0.0
    std: Annotated[float, msgspec.Meta(gt=0)] = 1.0


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a chain; exactly one key.

    Attributes:
        impute: Stands for a missing value.
        clip: Lower and upper bound.
        log1p: ``log(1 + x)``; write ``log1p: true``.
        yeo_johnson: Yeo and Johnson's power transform with this exponent (2000; PowerTransformer's).
        box_cox: Box and Cox's power transform with this exponent (1964); missing from 0 down.
        quantiles: A score by the quantiles of the training data; see ``QuantileTransform``.
        multiply, add: A constant.
        standardise: Mean and standard deviation.
        bucketise: Ascending edges; a value becomes how many of them it has reached.
    """

    impute: float | UnsetType = UNSET
    clip: tuple[float, float] | UnsetType = UNSET
    log1p: bool | UnsetType = UNSET
    yeo_johnson: float | UnsetType = UNSET
    box_cox: float | UnsetType = UNSET
    quantiles: QuantileTransform | UnsetType = UNSET
    multiply: float | UnsetType = UNSET
    add: float | UnsetType = UNSET
    standardise: Scale | UnsetType = UNSET
    bucketise: tuple[float, ...] | UnsetType = UNSET

    def __post_init__(self) -> None:
        """A step with no key or with several has no order to go by."""
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not UNSET]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of {', '.join(self.__struct_fields__)}, got {given}")


def chained(x: Numbers, steps: Sequence[Step]) -> Numbers:
    """Numbers [n] after the steps, in order; a missing one stays missing unless imputed."""
    for step in steps:
        if step.impute is not UNSET:
            x = np.where(np.isnan(x), step.impute, x)
        elif step.clip is not UNSET:
            x = np.clip(x, *step.clip)
        elif step.log1p is not UNSET:
            x = np.log1p(x)
        elif step.yeo_johnson is not UNSET:
            x = yeo_johnson(x, step.yeo_johnson)
        elif step.box_cox is not UNSET:
            x = box_cox(x, step.box_cox)
        elif step.quantiles is not UNSET:
            x = scores_of(x, quantiles_of(step.quantiles))
        elif step.multiply is not UNSET:
            x = x * step.multiply
        elif step.add is not UNSET:
            x = x + step.add
        elif step.standardise is not UNSET:
            x = (x - step.standardise.mean) / step.standardise.std
        elif step.bucketise is not UNSET:
            x = np.where(np.isnan(x), x, np.searchsorted(step.bucketise, x, side="right"))
    return x


def before(y: float, steps: Sequence[Step]) -> float:
    """A number that the scaling and logarithms among the steps make ``y`` of."""
    for step in reversed(steps):
        if step.log1p is not UNSET:
            y = float(np.expm1(y))
        elif step.multiply is not UNSET:
            y = y / (step.multiply or 1.0)
        elif step.add is not UNSET:
            y = y - step.add
        elif step.standardise is not UNSET:
            y = y * step.standardise.std + step.standardise.mean
    return y


def box_cox(x: Numbers, power: float) -> Numbers:
    """``(x**power - 1) / power`` of numbers [n], or their logarithms; NaN from 0 down.

    G. E. P. Box and D. R. Cox, *An analysis of transformations*, J. R. Statistical Society B 26, 1964.
    """
    with np.errstate(all="ignore"):
        logarithm = np.log(np.where(x > 0, x, np.nan))
        made: Numbers = logarithm if power == 0 else np.expm1(power * logarithm) / power
    return made


def yeo_johnson(x: Numbers, power: float) -> Numbers:
    """``((1 + x)**power - 1) / power`` of numbers [n], the negative ones mirrored with ``2 - power``.

    I.-K. Yeo and R. A. Johnson, *A new family of power transformations*, Biometrika 87, 2000.
    """
    exponent = np.where(x < 0, 2.0 - power, power)
    logarithm = np.log1p(np.abs(x))
    with np.errstate(all="ignore"):
        size = np.where(exponent == 0, logarithm, np.expm1(exponent * logarithm) / exponent)
    return np.copysign(size, x)
