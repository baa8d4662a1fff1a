"""How a load moves over a run: a share of its peak at each moment, and Poisson arrivals from it."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Shape = Literal["constant", "steps", "spike", "diurnal"]
N_STEPS = 5
SPIKE_BASE = 0.2
NIGHT = 0.1


def intensity(shape: Shape, part: float) -> float:
    """The load as a share of its peak, in (0, 1].

    Args:
        shape: ``steps`` climbs five equal steps; ``spike`` jumps from a fifth to the peak for the
            middle fifth of the run; ``diurnal`` is one day from night to night.
        part: How much of the run has passed, in [0, 1).
    """
    return _SHAPES[shape](part)


def poisson_arrivals(
    rate: float, duration_s: float, *, shape: Shape = "constant", random: np.random.Generator
) -> NDArray[np.float64]:
    """When requests arrive, in seconds since the start, sorted.

    A Poisson process whose rate is ``rate`` at the shape's peak, made by thinning (Lewis and Shedler, 1979).
    """
    n = random.poisson(rate * duration_s)
    arrivals = np.sort(random.uniform(0.0, duration_s, n))
    if shape == "constant":
        return arrivals
    kept = [intensity(shape, at / duration_s) for at in arrivals]
    return arrivals[random.uniform(size=n) < np.asarray(kept)]


def _steps(part: float) -> float:
    return min(math.floor(part * N_STEPS) + 1, N_STEPS) / N_STEPS


def _spike(part: float) -> float:
    return 1.0 if 0.4 <= part < 0.6 else SPIKE_BASE


def _diurnal(part: float) -> float:
    return NIGHT + (1 - NIGHT) * (1 - math.cos(2 * math.pi * part)) / 2


_SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "steps": _steps,
    "spike": _spike,
    "diurnal": _diurnal,
}
