"""Does a series of samples grow? A robust answer, unmoved by single spikes and by steps up and back."""

from collections.abc import Sequence

import numpy as np

MAX_POINTS = 400
SETTLE_SHARE = 0.2
SETTLE_S = 30.0
"""A process settles for the first fifth of its samples, half a minute at most."""


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Theil and Sen's slope: the median over all pairs of samples, in values a second; 0 for fewer than two.

    Source: Sen, Estimates of the regression coefficient based on Kendall's tau (1968). Of more than
    ``MAX_POINTS`` samples evenly spaced ones count.
    """
    kept = np.unique(np.linspace(0, len(times) - 1, min(len(times), MAX_POINTS)).astype(int))
    if len(kept) < 2:
        return 0.0
    at, value = np.asarray(times, float)[kept], np.asarray(values, float)[kept]
    first, second = np.triu_indices(len(kept), 1)
    apart = at[second] - at[first]
    rises = (value[second] - value[first])[apart > 0] / apart[apart > 0]
    return float(np.median(rises)) if rises.size else 0.0


def rise(times: Sequence[float], values: Sequence[float]) -> float:
    """What the slope adds up to from the first to the last sample."""
    return slope(times, values) * (times[-1] - times[0]) if times else 0.0


def n_settling(times: Sequence[float]) -> int:
    """How many first samples belong to a process that still settles."""
    if not times:
        return 0
    until = times[0] + min(SETTLE_S, SETTLE_SHARE * (times[-1] - times[0]))
    return int(np.searchsorted(np.asarray(times), until))
