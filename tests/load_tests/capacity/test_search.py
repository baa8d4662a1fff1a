"""The search against engines whose capacity is known, because they are formulas."""

import itertools
import random

import pytest

from load_tests.capacity.search import (
    Capacity,
    Trial,
    find_max,
    keeps,
    late_bound,
    replicas_for,
    tolerated_late,
)
from load_tests.results.slo import Promise

PROMISE = Promise(99, 0.020)


def engine_bearing(capacity: float, *, noise: float = 0.0, seed: int = 0):
    """An engine that answers in time up to a rate and loses the rest, give or take some noise."""
    chance = random.Random(seed)

    def run(rate: float, to_the_end: bool) -> Trial:
        borne = capacity * (1 + chance.uniform(-noise, noise))
        n_sent = int(rate * 3)
        n_late = max(0, int(n_sent * (1 - borne / rate)))
        return Trial(rate, n_sent, n_late, (n_sent - n_late) / 3, 0.001, 0.005)

    return run


@pytest.mark.parametrize("guess", [300.0, 5_000.0, 8_000.0, 100_000.0])
def test_the_capacity_is_found_from_any_first_guess(guess: float) -> None:
    found = find_max(PROMISE, engine_bearing(5_000), first_guess=guess)
    assert found.rate == pytest.approx(5_000, rel=0.06)
    assert (found.held, found.repeats) == (5, 5)


@pytest.mark.parametrize("seed", range(8))
def test_a_noisy_engine_s_capacity_repeats_within_ten_percent(seed: int) -> None:
    found = find_max(PROMISE, engine_bearing(5_000, noise=0.05, seed=seed), first_guess=6_000)
    assert found.rate == pytest.approx(5_000, rel=0.1)


@pytest.mark.parametrize("share", [0.3, 3.0])
def test_a_minute_in_which_the_machine_was_another_leads_nowhere(share: float) -> None:
    calm = engine_bearing(5_000, noise=0.02)
    disturbed = iter([engine_bearing(share * 5_000, noise=0.02)] * 10)
    found = find_max(
        PROMISE, lambda rate, to_the_end: next(disturbed, calm)(rate, to_the_end), first_guess=share * 5_000
    )
    assert found.rate == pytest.approx(5_000, rel=0.1)


@pytest.mark.parametrize("period", [5, 8, 11])
def test_a_machine_that_changes_all_the_time_has_a_capacity_between(period: int) -> None:
    slow, fast = engine_bearing(3_000), engine_bearing(6_000)
    turns = itertools.count()

    def run(rate: float, to_the_end: bool) -> Trial:
        return (slow if next(turns) // period % 2 else fast)(rate, to_the_end)

    found = find_max(PROMISE, run, first_guess=5_000)
    assert 2_700 < found.rate < 6_000


def test_no_capacity_is_reported_where_no_rate_holds() -> None:
    found = find_max(
        PROMISE, lambda rate, to_the_end: Trial(rate, 1000, 1000, 0.0, None, None), first_guess=5_000
    )
    assert (found.rate, found.curve) == (0.0, ())
    assert found.trials


def test_the_curve_spans_little_load_to_more_than_can_be_borne() -> None:
    found = find_max(PROMISE, engine_bearing(5_000), first_guess=5_000)
    assert found.curve[0].rate < 0.2 * found.rate
    assert found.curve[-1].rate > found.rate
    assert not keeps(PROMISE, found.curve[-1])


def test_few_requests_prove_nothing() -> None:
    assert not keeps(PROMISE, Trial(100, 100, 0, 100, 0.001, 0.001))
    assert keeps(PROMISE, Trial(100, 1000, 0, 100, 0.001, 0.001))


def test_the_bound_approaches_the_share_as_requests_grow() -> None:
    bounds = [late_bound(n // 100, n) for n in (100, 1_000, 100_000)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] == pytest.approx(0.01, rel=0.1)
    assert min(bounds) > 0.01


@pytest.mark.parametrize("n_sent", [300, 1_000, 20_000])
def test_one_more_late_request_than_tolerated_breaks_the_promise(n_sent: int) -> None:
    n_late = tolerated_late(PROMISE, n_sent)
    assert keeps(PROMISE, Trial(1, n_sent, n_late, 1, None, None))
    assert not keeps(PROMISE, Trial(1, n_sent, n_late + 1, 1, None, None))


def test_replicas_are_planned_with_headroom() -> None:
    measured = Capacity(PROMISE, 10_000, 5, 5, 0.01, (), (), replicas=2)
    assert replicas_for(4_000, measured) == 1
    assert replicas_for(4_001, measured) == 2
    assert replicas_for(50_000, measured) == 13
