"""The steps of a chain over one number: what a features file lists, and what is read off scikit-learn."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

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
        multiply, add: A constant.
        standardise: Mean and standard deviation.
        bucketise: Ascending edges; a value becomes how many of them it has reached.
    """

    impute: float | UnsetType = UNSET
    clip: tuple[float, float] | UnsetType = UNSET
    log1p: bool | UnsetType = UNSET
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
        elif step.multiply is not UNSET:
            x = x * step.multiply
        elif step.add is not UNSET:
            x = x + step.add
        elif step.standardise is not UNSET:
            x = (x - step.standardise.mean) / step.standardise.std
        elif step.bucketise is not UNSET:
            x = np.where(np.isnan(x), x, np.searchsorted(step.bucketise, x, side="right"))
    return x
