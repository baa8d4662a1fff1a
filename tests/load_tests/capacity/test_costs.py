"""Costs read off an engine's counters."""

import math

import numpy as np
import pytest

from load_tests.capacity.costs import Busy, Costs, busy_between, costs_of, scatter_of
from load_tests.server_view import parse_metrics


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


def test_batches_smaller_than_what_waits_are_as_large_as_they_get() -> None:
    wide = Busy(1000, 1.0, 125, 1000, 1.0)
    found = costs_of(Busy(100, 1.0, 100, 100, 0.5), wide, waiting_rows=64)
    assert found is not None
    assert found.most_rows == 8
    uncapped = costs_of(Busy(100, 1.0, 100, 100, 0.5), wide, waiting_rows=16)
    assert uncapped is not None
    assert uncapped.most_rows > 64


def test_an_engine_that_counts_no_batches_has_no_costs() -> None:
    assert costs_of(Busy(10, 1, 0, 0, 0), Busy(10, 1, 0, 0, 0)) is None


def test_a_loop_s_view_is_the_growth_of_the_engine_s_counters() -> None:
    before = parse_metrics('tandem_batch_rows_sum{model="late"} 5\ntandem_batch_rows_count{model="late"} 5')
    after = parse_metrics(
        'tandem_batch_rows_sum{model="late"} 45\ntandem_batch_rows_count{model="late"} 15\n'
        'tandem_batch_seconds_sum{model="late"} 0.5\n'
        'tandem_batch_seconds_bucket{model="late",le="0.05"} 7\n'
        'tandem_batch_seconds_bucket{model="late",le="+Inf"} 10\n'
        'tandem_batch_seconds_bucket{model="other",le="0.05"} 3'
    )
    seen = busy_between(before, after, "late", requests=40, seconds=2.0)
    assert seen == Busy(40, 2.0, 10, 40, 0.5, None, ((0.05, 7), (math.inf, 10)))


def test_two_looks_add_up() -> None:
    one = Busy(40, 2.0, 10, 40, 0.5, 0.7, ((0.05, 7), (math.inf, 10)))
    two = Busy(10, 1.0, 5, 10, 0.1, 0.2, ((0.03, 4), (0.05, 5), (math.inf, 5)))
    both = one + two
    assert (both.requests, both.seconds, both.batches, both.rows) == (50, 3.0, 15, 50)
    assert both.cpu_seconds == pytest.approx(0.9)
    assert both.batch_times == ((0.03, 4), (0.05, 12), (math.inf, 15))
    assert (one + Busy(1, 1, 1, 1, 1)).cpu_seconds is None


def test_batches_scatter_as_their_histogram_does() -> None:
    factors = np.array(scatter_of([(0.010, 0.0), (0.020, 90.0), (0.040, 100.0), (math.inf, 100.0)]))
    assert factors.mean() == pytest.approx(1)
    mean_s = 0.9 * 0.015 + 0.1 * 0.030
    assert factors.min() * mean_s == pytest.approx(0.010, rel=0.01)
    assert factors.max() * mean_s == pytest.approx(0.040, rel=0.01)
    assert (factors * mean_s > 0.020).mean() == pytest.approx(0.1)


def test_nothing_counted_does_not_scatter() -> None:
    assert scatter_of([]) == scatter_of([(0.01, 0.0), (math.inf, 0.0)]) == (1.0,)
