"""The simulated replica against arithmetic, against a queue whose answer is known, and on its own traces."""

from dataclasses import replace

import numpy as np
import pytest

from load_tests.capacity.costs import Costs
from load_tests.capacity.search import keeps
from load_tests.capacity.simulation import predict, simulate, simulated_trial
from load_tests.results.slo import Promise
from load_tests.shapes import poisson_arrivals

LONG_S = 10.0
HEAVY_TAIL = (*[0.9] * 95, *[2.9] * 5)


def line(batch_s: float, row_s: float = 0.0) -> tuple[tuple[float, float], ...]:
    """Costs of batches with an offset and a slope."""
    return ((1.0, batch_s + row_s), (1024.0, batch_s + 1024 * row_s))


def test_a_lone_request_takes_its_cost() -> None:
    costs = Costs(request_s=0.001, curve=line(0.002, 0.0001))
    assert simulate(costs, [1.0, 2.0], promise_s=LONG_S) == pytest.approx([0.0031, 0.0031])


def test_what_arrives_while_the_model_is_busy_is_scored_together() -> None:
    costs = Costs(request_s=0.0, curve=line(0.010))
    latencies = simulate(costs, [0.0, 0.001, 0.002, 0.009], promise_s=LONG_S)
    assert latencies == pytest.approx([0.010, 0.019, 0.018, 0.011])


def test_requests_are_read_while_a_dear_batch_is_scored_and_wait_while_a_cheap_one_is() -> None:
    dear = Costs(request_s=0.001, curve=line(0.010))
    assert simulate(dear, [0.0, 0.002, 0.003], promise_s=LONG_S) == pytest.approx([0.011, 0.019, 0.0185])
    cheap = Costs(request_s=0.001, curve=line(0.0001))
    assert simulate(cheap, [0.0, 0.0005], promise_s=LONG_S) == pytest.approx([0.0011, 0.0017])


def test_a_batch_holds_no_more_rows_than_it_may() -> None:
    costs = Costs(request_s=0.0, curve=line(0.010), most_rows=2)
    assert simulate(costs, np.zeros(4), promise_s=LONG_S) == pytest.approx([0.010, 0.010, 0.020, 0.020])


def test_who_would_be_late_is_refused_and_delays_nobody() -> None:
    costs = Costs(request_s=0.0, curve=line(0.010), most_rows=1)
    latencies = simulate(costs, [0.0, 0.001, 0.002, 0.050], promise_s=0.025)
    assert latencies == pytest.approx([0.010, 0.019, np.inf, 0.010])


def test_without_a_cost_for_requests_it_is_the_textbook_s_queue() -> None:
    service_s, load = 0.001, 0.5
    costs = Costs(request_s=0.0, curve=line(service_s), most_rows=1)
    arrivals = poisson_arrivals(load / service_s, 120, random=np.random.default_rng(5))
    waits = simulate(costs, arrivals, promise_s=1e6) - service_s
    # Pollaczek-Khinchine for a constant service time.
    assert waits.mean() == pytest.approx(service_s * load / (2 * (1 - load)), rel=0.05)


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_predicted_capacity_is_near_what_the_loops_can_do(replicas: int) -> None:
    costs = Costs(request_s=100e-6, curve=line(50e-6), replicas=replicas)
    found = predict(costs, Promise(99, 0.020), first_guess=8_000)
    assert 0.85 * replicas / costs.request_s < found.rate <= 1.02 * replicas / costs.request_s


def test_a_machine_whose_batches_scatter_keeps_less() -> None:
    steady = Costs(request_s=0.0002, curve=line(0.0025, 0.0002))
    promise, rate = Promise(99, 0.020), 2_600.0
    calm = simulated_trial(steady, promise, rate)
    noisy = simulated_trial(replace(steady, scatter=HEAVY_TAIL), promise, rate)
    assert keeps(promise, calm)
    assert not keeps(promise, noisy)
    assert noisy.n_late < 0.2 * noisy.n_sent
