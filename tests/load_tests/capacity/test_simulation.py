"""The simulated loop against arithmetic, and against a queue whose answer is known."""

import numpy as np
import pytest

from load_tests.capacity.simulation import Busy, Costs, busy_between, costs_of, predict, simulate
from load_tests.results.slo import Promise
from load_tests.server_view import parse_metrics
from load_tests.shapes import poisson_arrivals


def test_a_lone_request_takes_its_cost() -> None:
    costs = Costs(request_s=0.001, batch_s=0.002, row_s=0.0001)
    assert simulate(costs, np.array([1.0, 2.0])) == pytest.approx([0.0031, 0.0031])


def test_what_arrives_while_the_loop_is_busy_is_scored_together() -> None:
    costs = Costs(request_s=0.0, batch_s=0.010, row_s=0.0)
    latencies = simulate(costs, np.array([0.0, 0.001, 0.002, 0.009]))
    assert latencies == pytest.approx([0.010, 0.019, 0.018, 0.011])


def test_requests_are_read_and_answered_while_a_dear_batch_is_scored() -> None:
    dear = Costs(request_s=0.001, batch_s=0.010, row_s=0.0)
    assert simulate(dear, np.array([0.0, 0.001, 0.002])) == pytest.approx([0.011, 0.020, 0.019])
    cheap = Costs(request_s=0.001, batch_s=0.0001, row_s=0.0)
    assert simulate(cheap, np.array([0.0, 0.0005])) == pytest.approx([0.0011, 0.0017])


def test_a_batch_holds_no_more_rows_than_it_may() -> None:
    costs = Costs(request_s=0.0, batch_s=0.010, row_s=0.0, max_batch_rows=2)
    assert simulate(costs, np.zeros(4)) == pytest.approx([0.010, 0.010, 0.020, 0.020])


def test_who_waited_past_the_deadline_is_refused_and_costs_nothing() -> None:
    costs = Costs(request_s=0.0, batch_s=0.010, row_s=0.0, max_batch_rows=1)
    latencies = simulate(costs, np.array([0.0, 0.001, 0.002, 0.025]), deadline_s=0.015)
    assert latencies == pytest.approx([0.010, 0.019, np.inf, 0.010])


def test_batches_smaller_than_what_waits_are_as_large_as_they_get() -> None:
    wide = Busy(1000, 1.0, 125, 1000, 1.0)
    found = costs_of(Busy(100, 1.0, 100, 100, 0.5), wide, waiting_rows=64)
    assert found is not None
    assert found.max_batch_rows == 8
    uncapped = costs_of(Busy(100, 1.0, 100, 100, 0.5), wide, waiting_rows=16)
    assert uncapped is not None
    assert uncapped.max_batch_rows > 64


def test_without_a_cost_for_batches_it_is_the_textbook_s_queue() -> None:
    service_s, load = 0.001, 0.5
    costs = Costs(request_s=service_s, batch_s=0.0, row_s=0.0, max_batch_rows=1)
    arrivals = poisson_arrivals(load / service_s, 400, random=np.random.default_rng(5))
    waits = simulate(costs, arrivals) - service_s
    # Pollaczek-Khinchine for a constant service time.
    assert waits.mean() == pytest.approx(service_s * load / (2 * (1 - load)), rel=0.03)


def test_costs_are_read_off_two_closed_loops() -> None:
    true = Costs(request_s=50e-6, batch_s=20e-6, row_s=1e-6)
    narrow = Busy(1000, 1.0, 1000, 1000, 1000 * (true.batch_s + true.row_s))
    batches, size = 500, 30
    busy_s = batches * (true.batch_s + size * (true.row_s + true.request_s))
    wide = Busy(batches * size, busy_s, batches, batches * size, batches * (true.batch_s + size * true.row_s))
    found = costs_of(narrow, wide)
    assert found is not None
    assert (found.request_s, found.batch_s, found.row_s) == pytest.approx(
        (true.request_s, true.batch_s, true.row_s)
    )


def test_requests_that_come_one_by_one_cost_what_they_took_of_the_processor() -> None:
    narrow, wide = Busy(100, 1.0, 100, 100, 0.001), Busy(1000, 0.1, 100, 1000, 0.01)
    bunched = costs_of(narrow, wide)
    scattered = costs_of(narrow, wide, Busy(500, 1.0, 500, 500, 0.005, cpu_seconds=0.105))
    elsewhere = costs_of(narrow, wide, Busy(500, 1.0, 500, 500, 0.005))
    assert bunched is not None
    assert scattered is not None
    assert bunched.request_s == pytest.approx(90e-6)
    assert scattered.request_s == pytest.approx(200e-6)
    assert elsewhere == bunched


def test_an_engine_that_counts_no_batches_has_no_costs() -> None:
    assert costs_of(Busy(10, 1, 0, 0, 0), Busy(10, 1, 0, 0, 0)) is None


def test_a_loop_s_view_is_the_growth_of_the_engine_s_counters() -> None:
    before = parse_metrics('tandem_batch_rows_sum{model="late"} 5\ntandem_batch_rows_count{model="late"} 5')
    after = parse_metrics(
        'tandem_batch_rows_sum{model="late"} 45\ntandem_batch_rows_count{model="late"} 15\n'
        'tandem_batch_seconds_sum{model="late"} 0.5'
    )
    assert busy_between(before, after, "late", requests=40, seconds=2.0) == Busy(40, 2.0, 10, 40, 0.5)


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_predicted_capacity_is_near_what_the_loops_can_do(replicas: int) -> None:
    costs = Costs(request_s=100e-6, batch_s=50e-6, row_s=0.0, replicas=replicas)
    found = predict(costs, Promise(99, 0.020), first_guess=8_000)
    assert 0.85 * replicas / costs.request_s < found.rate <= 1.02 * replicas / costs.request_s
