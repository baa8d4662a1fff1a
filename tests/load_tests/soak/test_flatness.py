import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.soak.flatness import MAX_POINTS, n_settling, rise, slope

SECONDS = [float(at) for at in range(100)]


def test_a_leak_of_two_a_second_has_slope_two() -> None:
    assert slope(SECONDS, [7 + 2 * at for at in SECONDS]) == pytest.approx(2)


@given(st.floats(-1e9, 1e9), st.integers(0, 99), st.floats(-1e12, 1e12))
def test_one_spike_however_large_is_no_slope(level: float, at: int, spike: float) -> None:
    values = [level] * 100
    values[at] = spike
    assert slope(SECONDS, values) == 0


def test_a_batch_jobs_step_up_and_back_is_no_slope() -> None:
    assert slope(SECONDS, [50.0 if 20 <= at < 45 else 10.0 for at in SECONDS]) == 0


def test_a_staircase_of_one_descriptor_a_reload_is_a_rise() -> None:
    assert rise(SECONDS, [at // 10 for at in SECONDS]) > 8


def test_many_samples_are_thinned_without_losing_the_slope() -> None:
    times = [float(at) for at in range(20 * MAX_POINTS)]
    assert slope(times, [3 * at for at in times]) == pytest.approx(3)


@pytest.mark.parametrize("times", [[], [1.0], [1.0, 1.0]])
def test_too_few_samples_have_no_slope(times: list[float]) -> None:
    assert slope(times, times) == rise(times, times) == 0


def test_a_fifth_of_a_short_run_and_half_a_minute_of_a_long_one_settle() -> None:
    assert n_settling([]) == 0
    assert n_settling(SECONDS[:51]) == 10
    assert n_settling([float(at) for at in range(3600)]) == 30
