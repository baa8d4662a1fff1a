"""What the samples of an overload and of a swap amount to."""

import pytest

from load_tests.fast.generator import Samples
from load_tests.overload import Overloaded, judged
from load_tests.swap import BEFORE_S, swap_of

SLO_S = 0.05


def samples(*requests: tuple[float, float, int]) -> Samples:
    found = Samples()
    for due, latency, status in requests:
        found.add(due, latency, status)
        if not status:
            found.blame("reset")
    return found


def evenly(start: float, stop: float, latency: float, status: int = 200) -> list[tuple[float, float, int]]:
    return [(start + at / 100, latency, status) for at in range(round(100 * (stop - start)))]


def judge(*parts: list[tuple[float, float, int]]) -> Overloaded:
    requests = [request for part in parts for request in part]
    return judged(samples(*requests), slo_s=SLO_S, capacity=100.0, offered=200.0, seconds=10.0)


def test_what_is_kept_is_not_missed() -> None:
    found = judge(evenly(0, 10, 0.04), evenly(0, 10, 0.005, 429), evenly(10, 14, 0.01))
    assert (found.in_time, found.refused, found.recovered_s, found.missed()) == (100.0, 1000, 0.0, [])


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ([evenly(0, 8, 0.04), evenly(10, 14, 0.01)], "capacity in time"),
        ([evenly(0, 10, SLO_S + 0.001), evenly(10, 14, 0.01)], "capacity in time"),
        ([evenly(0, 10, 0.04), evenly(0, 10, 0.02, 429), evenly(10, 14, 0.01)], "refusals within"),
        ([evenly(0, 10, 0.04), evenly(10, 14, 0.01), [(1.0, 0.0, 0)]], "an answer to each"),
        ([evenly(0, 10, 0.04), evenly(10, 12, 0.01, 429), evenly(12, 14, 0.01)], "recovery within"),
        ([evenly(0, 10, 0.04), evenly(10, 14, 0.06)], "recovery within"),
    ],
)
def test_each_promise_that_is_broken_is_named(parts: list[list[tuple[float, float, int]]], word: str) -> None:
    (missed,) = judge(*parts).missed()
    assert word in missed


def test_recovery_is_when_the_first_good_second_begins() -> None:
    found = judge(evenly(0, 10, 0.04), evenly(10, 10.5, 0.01, 429), evenly(10.5, 14, 0.01))
    assert found.recovered_s == pytest.approx(0.5)


def test_a_swap_is_compared_with_the_seconds_before_it() -> None:
    begun_s = 2 * BEFORE_S
    run = samples(
        *evenly(0, BEFORE_S, 9.0),
        *evenly(BEFORE_S, begun_s, 0.001),
        *evenly(begun_s, begun_s + 1, 0.002),
        *evenly(begun_s + 1.01, begun_s + 2, 9.0),
        (begun_s + 0.5, 0.001, 0),
    )
    swap = swap_of(run, begun_s, begun_s + 1)
    assert (swap.before_p99_s, swap.during_p99_s, swap.failed) == (0.001, 0.002, 1)
    assert swap.ratio == pytest.approx(2.0)
