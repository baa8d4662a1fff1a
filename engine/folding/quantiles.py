"""A quantile transform, listed or read off scikit-learn, as the kernel's knots and ends."""

from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.folding.ordered_floats import keys_of, of_keys
from kernels.linear.quantiles import NORMAL, NORMAL_OF_SINGLE, UNIFORM, Quantiles

NEAR = 1e-7
"""Numbers nearer than this to the first or last quantile have the lowest or highest normal score."""


class QuantileTransform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The share of the training data below a number.

    Attributes:
        values: Quantiles, from the lowest number to the highest, evenly spaced in shares; none descends.
        normal: Whether the share becomes its normal score, between -5.2 and 5.2.
    """

    values: Annotated[tuple[float, ...], msgspec.Meta(min_length=1)]
    normal: bool = False

    def __post_init__(self) -> None:
        """Quantiles are numbers in their order, not as far apart as floats can be."""
        with np.errstate(all="ignore"):
            steps = np.diff(self.values)
        if not (np.isfinite(self.values).all() and np.isfinite(steps).all() and (steps >= 0).all()):
            raise ValueError("expected quantiles that are finite and do not descend")


def quantiles_of(step: QuantileTransform, dtype: type[np.floating] = np.float64) -> Quantiles:
    """The transform as the kernel computes it, of numbers that scikit-learn has as ``dtype``.

    Of float32 it makes float32: the ends of normal scores are elsewhere, and shares are rounded.
    """
    values = np.array(step.values, np.float64)
    if not step.normal:
        high_end = values[-1] if len(values) > 1 else np.inf  # of a single quantile all shares are 0
        return Quantiles.of_values(values, values[0], high_end, UNIFORM)
    kind = NORMAL if dtype == np.float64 else NORMAL_OF_SINGLE
    # -(x + NEAR) is -x - NEAR: the high end is the low one of the axis turned around
    return Quantiles.of_values(values, _low_end(values[0], dtype), -_low_end(-values[-1], dtype), kind)


def _low_end(lowest: float, dtype: type[np.floating]) -> float:
    """The largest number whose difference to ``NEAR`` lies below ``lowest``."""
    highest = np.finfo(dtype).max
    good, bad = (int(keys_of(np.array([end], dtype))[0]) for end in (-highest, highest))
    while bad - good > 1:
        middle = (good + bad) // 2
        x: NDArray[np.floating] = of_keys([middle], np.dtype(dtype))
        if (x - dtype(NEAR))[0] < lowest:
            good = middle
        else:
            bad = middle
    return float(of_keys([good], np.dtype(dtype))[0])
