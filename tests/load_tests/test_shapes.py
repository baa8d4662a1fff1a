"""Loads move as their shape says, and arrivals are Poisson."""

import numpy as np
import pytest

from load_tests.shapes import Shape, intensity, poisson_arrivals

SHAPES: tuple[Shape, ...] = ("constant", "steps", "spike", "diurnal")


@pytest.mark.parametrize("shape", SHAPES)
def test_an_intensity_is_a_share_of_the_peak(shape: Shape) -> None:
    values = [intensity(shape, part) for part in np.linspace(0, 0.999, 200)]
    assert min(values) > 0
    assert max(values) == pytest.approx(1.0, abs=0.001)


def test_steps_climb() -> None:
    assert [intensity("steps", part) for part in (0.0, 0.3, 0.5, 0.7, 0.9)] == [0.2, 0.4, 0.6, 0.8, 1.0]


def test_a_spike_is_in_the_middle() -> None:
    assert [intensity("spike", part) for part in (0.1, 0.5, 0.7)] == [0.2, 1.0, 0.2]


def test_a_day_peaks_at_noon() -> None:
    assert intensity("diurnal", 0.5) == pytest.approx(1.0)
    assert intensity("diurnal", 0.0) == pytest.approx(0.1)


def test_poisson_gaps_are_exponential() -> None:
    arrivals = poisson_arrivals(1000, 20, random=np.random.default_rng(3))
    gaps = np.diff(arrivals)
    assert len(arrivals) == pytest.approx(20_000, rel=0.03)
    assert gaps.mean() == pytest.approx(1e-3, rel=0.03)
    assert gaps.std() == pytest.approx(1e-3, rel=0.05)


def test_a_shape_thins_the_arrivals() -> None:
    arrivals = poisson_arrivals(1000, 10, shape="spike", random=np.random.default_rng(4))
    middle = ((arrivals >= 4) & (arrivals < 6)).sum()
    assert middle == pytest.approx(2000, rel=0.1)
    assert len(arrivals) - middle == pytest.approx(1600, rel=0.1)
