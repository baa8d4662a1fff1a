import pytest

from engine.realtime.replicas.scaling import BusyFraction, wanted_replicas


def test_busy_is_cpu_time_per_time_since_the_last_look():
    busy = BusyFraction(wall_s=100.0, cpu_s=5.0)
    assert busy.since_last(104.0, 6.0) == 0.25
    assert busy.since_last(105.0, 7.0) == 1.0


def test_busy_of_no_time_is_zero():
    assert BusyFraction(1.0, 1.0).since_last(1.0, 1.0) == 0.0


@pytest.mark.parametrize(
    ("busy", "wanted"),
    [
        ([], 1),
        ([0.0], 1),
        ([0.7], 1),
        ([0.71], 2),
        ([1.0, 1.0], 3),
        ([0.3, 0.3, 0.3], 2),
        ([1.0] * 8, 4),
    ],
)
def test_replicas_are_as_many_as_keep_each_at_most_seven_tenths_busy_within_bounds(busy, wanted):
    assert wanted_replicas(busy, at_least=1, at_most=4) == wanted


def test_fewer_replicas_than_asked_for_are_never_wanted():
    assert wanted_replicas([0.0, 0.0, 0.0], at_least=2, at_most=4) == 2
