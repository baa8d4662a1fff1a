import random
import statistics
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.realtime.batching.admission import (
    CERTAIN_SHARE,
    FULL_BATCH_SHARE,
    MISSED_SHARE,
    MISSED_SHARE_AT_MOST,
    Admission,
    CostModel,
    in_turn_s,
)
from tests.engine.realtime.simulation import Arrival, Cost, Exact, simulate

SLO_S = 0.05


def service_s(n_rows: int) -> float:
    """4 ms and 0.3 ms a row: with at most 32 rows, 2,353 rows a second."""
    return 0.004 + 0.0003 * n_rows


CAPACITY = 32 / service_s(32)


def poisson(rate: float, seconds: float, seed: int = 0) -> Iterator[Arrival]:
    draw = random.Random(seed)
    at_s = 0.0
    while (at_s := at_s + draw.expovariate(rate)) < seconds:
        yield Arrival(at_s, budget_s=SLO_S)


def learned(most_rows: int = 32) -> Admission:
    admission = Admission(SLO_S, most_rows)
    for power in range(6):
        admission.observe(1 << power, service_s(1 << power))
    return admission


def exact(most_rows: int = 32) -> Admission:
    admission = Admission(SLO_S, most_rows, Exact(service_s))
    admission.settle()
    return admission


@pytest.mark.parametrize("load", [1.2, 2.0, 5.0])
def test_under_overload_nine_tenths_of_capacity_are_answered_in_time(load: float) -> None:
    arrivals = list(poisson(load * CAPACITY, 10.0))
    outcome = simulate(arrivals, learned(), service_s)
    assert outcome.in_time(arrivals) >= 0.9 * CAPACITY * 10.0
    assert len(outcome.answered_s) + len(outcome.refused) + len(outcome.expired) == len(arrivals)


def dear_s(n_rows: int) -> float:
    """10 ms and 0.36 ms a row: 32 rows take twice as long as one, and two fifths of the promise."""
    return 0.010 + 0.00036 * n_rows


DEAR_CAPACITY = 32 / dear_s(32)


def learned_dear() -> Admission:
    admission = Admission(SLO_S, 32)
    for power in range(6):
        admission.observe(1 << power, dear_s(1 << power))
    return admission


def test_a_model_of_which_two_batches_fit_the_promise_keeps_its_throughput() -> None:
    arrivals = list(poisson(2 * DEAR_CAPACITY, 10.0))
    outcome = simulate(arrivals, learned_dear(), dear_s)
    assert outcome.in_time(arrivals) >= 0.9 * DEAR_CAPACITY * 10.0


def test_a_busy_machine_does_not_make_batches_of_single_rows() -> None:
    draw = random.Random(1)
    arrivals = list(poisson(2 * DEAR_CAPACITY, 10.0))
    outcome = simulate(arrivals, learned_dear(), lambda n: dear_s(n) * draw.choice([1, 1, 1, 1.3, 1.8]))
    assert outcome.in_time(arrivals) >= 0.95 * len(outcome.answered_s)
    assert outcome.in_time(arrivals) >= 0.4 * DEAR_CAPACITY * 10.0


@pytest.mark.parametrize("load", [2.0, 4.0])
def test_stalls_that_have_nothing_to_do_with_rows_leave_the_batches_full(load: float) -> None:
    draw = random.Random(2)

    def stalled_s(n_rows: int) -> float:
        return 0.0075 + 0.00031 * n_rows + (draw.uniform(0.004, 0.016) if draw.random() < 0.1 else 0.0)

    calm_s = 0.0075 + 0.00031 * 32
    capacity = 32 / (calm_s + 0.1 * 0.010)
    admission = Admission(SLO_S, 32)
    for _ in range(64):
        admission.observe(16, 0.0075 + 0.00031 * 16)
        admission.observe(32, calm_s)
    arrivals = list(poisson(load * capacity, 20.0))
    outcome = simulate(arrivals, admission, stalled_s)
    assert outcome.in_time(arrivals) >= 0.9 * capacity * 20.0
    assert outcome.in_time(arrivals) >= 0.99 * len(outcome.answered_s)


def test_an_estimate_so_high_that_nobody_may_wait_is_corrected_within_seconds() -> None:
    admission = learned_dear()
    for cost_s in [0.2] * 20 + [dear_s(8)] * 20:
        admission.observe(8, cost_s)
    arrivals = list(poisson(2 * DEAR_CAPACITY, 10.0))
    outcome = simulate(arrivals, admission, dear_s)
    in_the_second_half = [i for i in outcome.answered_s if arrivals[i].at_s > 5.0]
    assert len(in_the_second_half) >= 0.8 * DEAR_CAPACITY * 5.0
    assert outcome.late(arrivals) == []


@pytest.mark.parametrize("load", [0.1, 0.4])
def test_what_bad_times_taught_refuses_hardly_anybody_once_batches_are_short(load: float) -> None:
    admission = learned()
    admission.costs.spread_s = 0.4 * SLO_S
    admission.settle()
    admission.lag_s = 0.2 * SLO_S
    arrivals = list(poisson(load * CAPACITY, 10.0))
    outcome = simulate(arrivals, admission, service_s)
    assert len(outcome.refused) <= 0.01 * len(arrivals)
    assert outcome.late(arrivals) == []


def test_a_batch_kept_short_for_one_takes_no_more_than_that_one_allows() -> None:
    admission = exact()
    just_s = (service_s(8) + 1e-6) / CERTAIN_SHARE
    for waiting in range(8):
        assert admission.refusal(1, budget_s=just_s, small_rows=waiting, large_rows=0, rest_s=1e-9) is None
    for budget_s in (1.5 * just_s, SLO_S):
        assert admission.refusal(1, budget_s=budget_s, small_rows=8, large_rows=0, rest_s=1e-9) is not None
    admission.batch_taken(8)
    assert admission.refusal(1, budget_s=SLO_S, small_rows=8, large_rows=0, rest_s=1e-9) is None


@pytest.mark.parametrize(("n_rows", "n_refused", "is_light"), [(4, 0, True), (20, 0, False), (4, 16, False)])
def test_no_batch_is_kept_short_where_full_ones_are_needed(
    n_rows: int, n_refused: int, is_light: bool
) -> None:
    admission = exact()
    just_s = (service_s(8) + 1e-6) / CERTAIN_SHARE
    for _ in range(50):
        for _ in range(n_refused):
            assert admission.refusal(1, budget_s=0.0, small_rows=4, large_rows=0, rest_s=1e-9) is not None
        admission.batch_taken(n_rows)
    refusal = admission.refusal(1, budget_s=just_s, small_rows=0, large_rows=0, rest_s=1e-9)
    assert (refusal is None) == is_light


def test_costs_that_scatter_still_leave_ninety_nine_in_a_hundred_in_time() -> None:
    draw = random.Random(1)

    def scattered_s(n_rows: int) -> float:
        return service_s(n_rows) * draw.uniform(0.9, 1.2)

    arrivals = list(poisson(2 * CAPACITY, 20.0))
    outcome = simulate(arrivals, learned(), scattered_s)
    assert outcome.in_time(arrivals) >= 0.99 * len(outcome.answered_s)
    assert outcome.in_time(arrivals) >= 0.85 * CAPACITY * 20.0


def test_a_model_that_slows_down_is_learned_within_a_second() -> None:
    arrivals = list(poisson(0.5 * CAPACITY, 10.0))
    clock = iter(range(1_000_000))
    outcome = simulate(arrivals, learned(), lambda n: service_s(n) * (1 if next(clock) < 500 else 4))
    last = [i for i in outcome.late(arrivals) if arrivals[i].at_s > 6.0]
    assert len(last) <= 0.01 * len(outcome.answered_s)


def test_a_batch_size_given_up_is_tried_again() -> None:
    arrivals = list(poisson(2 * CAPACITY, 10.0))
    clock = iter(range(1_000_000))
    outcome = simulate(arrivals, learned(), lambda n: service_s(n) * (4 if next(clock) < 100 else 1))
    assert max(outcome.batches[50:100]) < 32
    assert max(outcome.batches[-50:]) == 32


def steps_s(n_rows: int) -> float:
    """12.5 ms for up to 64 rows, as an accelerator takes."""
    return 0.0125 * -(-n_rows // 64)


@pytest.mark.parametrize(("cost", "full"), [(dear_s, 32), (steps_s, 64)])
@pytest.mark.parametrize("load", [0.5, 0.7])
def test_bad_times_are_over_when_they_are_over(cost: Cost, full: int, load: float) -> None:
    admission, draw, clock = Admission(SLO_S, 1024), random.Random(4), iter(range(1_000_000))
    for power in range(8):
        admission.observe(1 << power, cost(1 << power))

    def at_times_slow_s(n_rows: int) -> float:
        return cost(n_rows) * (draw.uniform(1.0, 8.0) if 100 <= next(clock) < 200 else draw.uniform(0.9, 1.2))

    arrivals = list(poisson(load * full / cost(full), 12.0))
    outcome = simulate(arrivals, admission, at_times_slow_s)
    late = set(outcome.late(arrivals))
    last = [index for index, arrival in enumerate(arrivals) if arrival.at_s > 9.0]
    in_time = [index for index in last if index in outcome.answered_s and index not in late]
    assert len(in_time) >= 0.98 * len(last)


def test_stalls_never_make_a_margin_that_lets_nobody_wait() -> None:
    admission, draw = learned(), random.Random(5)
    for _ in range(1000):
        admission.observe(32, service_s(32) + (draw.uniform(0.1, 0.4) if draw.random() < 0.1 else 0.0))
        admission.batch_taken(32)
    admission.settle()
    assert admission.costs.spread_s > SLO_S
    rest_s = (1 - MISSED_SHARE_AT_MOST) * admission.typical_s
    assert admission.refusal(1, budget_s=SLO_S, small_rows=1, large_rows=0, rest_s=0.99 * rest_s) is None
    assert admission.refusal(1, budget_s=SLO_S, small_rows=1, large_rows=0, rest_s=1.01 * rest_s) is not None


def test_at_little_load_nobody_waits_for_a_batch_to_fill() -> None:
    arrivals = list(poisson(0.02 * CAPACITY, 10.0))
    outcome = simulate(arrivals, learned(), service_s)
    waited = sorted(at_s - arrivals[i].at_s for i, at_s in outcome.answered_s.items())
    assert waited[len(waited) // 2] == pytest.approx(service_s(1))
    assert outcome.refused == set()


arrivals_drawn = st.lists(
    st.tuples(
        st.floats(0, 0.002) | st.floats(0, 0.02),
        st.integers(1, 4) | st.integers(1, 100),
        st.floats(0.004, 0.03) | st.floats(0.001, 0.5),
        st.none() | st.floats(0, 0.1),
    ),
    max_size=60,
)


def trace(drawn: list[tuple[float, int, float, float | None]]) -> list[Arrival]:
    at_s, arrivals = 0.0, []
    for gap_s, n_rows, budget_s, stay_s in drawn:
        at_s += gap_s
        arrivals.append(Arrival(at_s, n_rows, budget_s, None if stay_s is None else at_s + stay_s))
    return arrivals


@given(arrivals_drawn)
@settings(max_examples=300, deadline=None)
def test_the_model_never_idles_while_a_row_waits(
    drawn: list[tuple[float, int, float, float | None]],
) -> None:
    assert simulate(trace(drawn), exact(), service_s).idle_with_work == 0


@given(arrivals_drawn)
@settings(max_examples=500, deadline=None)
def test_nobody_admitted_is_late_where_costs_are_known(
    drawn: list[tuple[float, int, float, float | None]],
) -> None:
    # One that finds everything idle is always tried, so none asks for less than that takes here.
    patient = [
        (gap_s, n, max(budget_s, service_s(min(n, 32)) + 1e-6), stay_s)
        for gap_s, n, budget_s, stay_s in drawn
    ]
    arrivals = trace(patient)
    outcome = simulate(arrivals, exact(), service_s)
    assert outcome.late(arrivals) == []
    assert outcome.expired == set()


def test_who_finds_everything_idle_is_tried_whatever_was_learned() -> None:
    admission = Admission(SLO_S, 32)
    admission.observe(1, 100.0)
    assert admission.refusal(1, budget_s=0.001, small_rows=0, large_rows=0, rest_s=0.0) is None


def test_a_refusal_says_how_long_it_would_take() -> None:
    refusal = exact().refusal(1, budget_s=SLO_S, small_rows=1000, large_rows=0, rest_s=0.01)
    assert refusal is not None
    assert "1000 rows wait" in str(refusal)


def test_a_long_request_that_would_make_waiting_ones_late_is_refused() -> None:
    admission = exact()
    for waiting in range(0, 96, 32):
        assert admission.refusal(32, budget_s=SLO_S, small_rows=waiting, large_rows=0, rest_s=1e-9) is None
    refusal = admission.refusal(64, budget_s=10.0, small_rows=96, large_rows=0, rest_s=1e-9)
    assert str(refusal) == "64 rows would make requests late that wait already"


def test_a_batch_never_takes_more_than_its_share_of_the_promise() -> None:
    admission = exact(most_rows=1024)
    assert service_s(admission.max_rows) * (2 - MISSED_SHARE) <= CERTAIN_SHARE * SLO_S
    assert service_s(2 * admission.max_rows) * (2 - MISSED_SHARE) > CERTAIN_SHARE * SLO_S


def test_a_machine_a_third_slower_does_not_halve_the_cap() -> None:
    admission = Admission(SLO_S, 32)
    calm_s = {16: 0.009, 32: 0.015}
    for n_rows in [16, 32] * 32:
        admission.observe(n_rows, calm_s[n_rows])
    assert admission.max_rows == 32
    for _ in range(64):
        admission.observe(32, 1.3 * calm_s[32])
    assert admission.costs.typical_s(32) == pytest.approx(1.3 * calm_s[32], rel=0.05)
    assert admission.max_rows == 32


def test_where_rows_cost_what_they_cost_alone_batches_stay_short() -> None:
    admission = Admission(SLO_S, 1024, Exact(lambda n_rows: 0.001 * n_rows))
    admission.settle()
    assert 0.001 * admission.max_rows <= FULL_BATCH_SHARE * SLO_S < 0.002 * admission.max_rows


def test_chance_adds_up_as_the_sides_of_a_right_angle_do() -> None:
    assert in_turn_s(3, 4, typical_s=0.01, spread_s=0.002) == pytest.approx(0.03 + 2 * 0.002)
    draw = random.Random(3)
    threes = sorted(sum(draw.gauss(0.01, 0.001) for _ in range(3)) for _ in range(20_000))
    high_s = threes[int(0.99 * len(threes))]
    assert in_turn_s(3, 3, typical_s=0.01, spread_s=2.326 * 0.001) == pytest.approx(high_s, rel=0.01)


def test_a_size_not_seen_is_costed_row_by_row() -> None:
    costs = CostModel()
    assert costs.typical_s(4) == 0.0
    costs.observe(4, 0.01)
    assert costs.typical_s(4) == 0.01
    assert costs.typical_s(16) == pytest.approx(0.04)


def test_costs_never_fall_with_more_rows_nor_more_than_double() -> None:
    costs = CostModel()
    costs.observe(1, 0.02)
    costs.observe(8, 0.01)
    assert costs.typical_s(1) == costs.typical_s(8) == 0.01
    costs.observe(16, 0.05)
    assert costs.typical_s(16) == 0.02


def test_the_spread_settles_where_one_in_fifty_exceeds_it() -> None:
    draw, costs, n_over, middles = random.Random(2), CostModel(), 0, []
    for _ in range(20_000):
        cost_s = 1.0 + draw.random()
        n_over += cost_s > costs.typical_s(1) + costs.spread_s
        costs.observe(1, cost_s)
        middles.append(costs.typical_s(1))
    assert 0.01 < n_over / 20_000 < 0.04
    assert statistics.median(middles) == pytest.approx(1.5, rel=0.1)


def test_what_one_size_tells_of_the_machine_holds_for_all() -> None:
    costs = CostModel()
    for _ in range(4):
        for power in range(6):
            costs.observe(1 << power, service_s(1 << power))
    for _ in range(200):
        costs.observe(1, 3 * service_s(1))
    assert costs.typical_s(32) == pytest.approx(3 * service_s(32), rel=0.5)
    for _ in range(500):
        costs.observe(1, service_s(1))
    assert costs.typical_s(32) == pytest.approx(service_s(32), rel=0.5)
    assert costs.spread_s < 0.1 * service_s(1)
