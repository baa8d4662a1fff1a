"""Costs read off an engine's counters."""

import math

import numpy as np
import pytest

from engine.realtime.counting.counters import ModelCounters
from engine.realtime.counting.exposition import render
from load_tests.capacity.costs import Busy, Costs, Size, busy_between, costs_of, scatter_of
from load_tests.server_view import Series, parse_metrics


def busy(*batches: tuple[int, int, float], cpu_s: float | None = None, seconds: float = 1.0) -> Busy:
    """What was counted of batches, each so many times, of so many rows and taking so long."""
    sizes = tuple(Size(n, n * rows, n * taken_s) for n, rows, taken_s in batches)
    return Busy(sum(size.rows for size in sizes), seconds, sizes, cpu_s)


def test_seven_runs_of_ten_cost_less() -> None:
    run = busy((100, 1, 0.001), (50, 8, 0.002), cpu_s=0.2 + 500 * 50e-6)
    stalled = busy((100, 1, 0.005), (50, 8, 0.009), cpu_s=2.0)
    idle = busy((100, 1, 0.0005), cpu_s=0.05)
    found = costs_of([idle] * 3 + [run] * 5 + [stalled] * 2, busy((100, 8, 0.002)))
    assert found is not None
    assert found.request_s == pytest.approx(50e-6)
    assert found.curve == ((1, pytest.approx(0.001)), (8, pytest.approx(0.002)))


def test_sizes_hardly_seen_and_runs_that_nothing_answered_tell_nothing() -> None:
    run = busy((100, 1, 0.001), (4, 8, 9.0), cpu_s=0.2)
    found = costs_of([run, Busy(0, 1.0, (), 0.3)], busy((100, 8, 0.002)))
    assert found is not None
    assert found.curve == ((1, pytest.approx(0.001)),)


def test_a_larger_batch_takes_no_less() -> None:
    found = costs_of([busy((100, 1, 0.002), (100, 4, 0.001))], busy((100, 8, 0.002)))
    assert found is not None
    assert [seconds for _, seconds in found.curve] == pytest.approx([0.002, 0.002])


def test_where_the_processor_is_not_seen_a_loop_that_never_idles_tells_what_requests_cost() -> None:
    closed = busy((100, 10, 0.001), seconds=0.15)
    found = costs_of([busy((100, 1, 0.001))], closed)
    assert found is not None
    assert found.request_s == pytest.approx(50e-6)
    shared = costs_of([busy((100, 1, 0.001))], closed, replicas=2)
    assert shared is not None
    assert shared.request_s == pytest.approx(200e-6)


def test_batches_smaller_than_what_waits_are_as_large_as_they_get() -> None:
    capped = costs_of([busy((9, 1, 0.001))], busy((125, 8, 0.008)), waiting_rows=64)
    uncapped = costs_of([busy((9, 1, 0.001))], busy((125, 8, 0.008)), waiting_rows=16)
    assert capped is not None
    assert uncapped is not None
    assert capped.most_rows == 8
    assert uncapped.most_rows > 64


def test_an_engine_that_counts_no_batches_has_no_costs() -> None:
    nothing = Busy(10, 1.0, ())
    assert costs_of([nothing], busy((10, 1, 0.1))) is None
    assert costs_of([busy((10, 1, 0.1))], nothing) is None


def test_an_engine_that_made_hardly_a_batch_has_no_costs() -> None:
    assert costs_of([busy((4, 1, 0.9))], busy((2, 1, 0.9))) is None


def test_an_engine_that_does_not_count_by_size_has_no_costs() -> None:
    text = 'tandem_batch_rows_bucket{model="late",le="1"} 9\ntandem_request_seconds_count{model="late"} 9\n'
    seen = busy_between({}, parse_metrics(text), "late", seconds=1.0)
    assert (seen.requests, seen.sizes) == (9, ())


def test_between_its_points_a_curve_is_straight_and_beyond_them_it_grows_as_the_rows_do() -> None:
    by_rows = Costs(0.0, ((2.0, 0.002), (4.0, 0.003)), most_rows=8).by_rows()
    expected = [0.002, 0.002, 0.002, 0.0025, 0.003, 0.00375, 0.0045, 0.00525, 0.006]
    assert by_rows == pytest.approx(expected)


def test_what_an_engine_counted_meanwhile_is_the_growth_of_its_counters() -> None:
    counters, other = ModelCounters(), ModelCounters()

    def seen() -> Series:
        cells = {"late": counters.cells.tolist(), "other": other.cells.tolist()}
        return parse_metrics(render(cells).decode())

    counters.batch_scored(3, 0.5)
    before = seen()
    for n_rows, cost_s in ((3, 0.002), (4, 0.003), (1, 0.001), (100_000, 0.02)):
        counters.batch_scored(n_rows, cost_s)
        other.batch_scored(n_rows, cost_s)
    for _ in range(4):
        counters.request_scored("rows", 1, 0, False, *(0.01,) * 5)
    found = busy_between(before, seen(), "late", seconds=2.0, cpu_s=0.5)
    assert (found.requests, found.seconds, found.cpu_s) == (4, 2.0, 0.5)
    assert [(size.batches, size.rows) for size in found.sizes] == [(1, 1), (2, 7), (1, 100_000)]
    assert [size.seconds for size in found.sizes] == pytest.approx([0.001, 0.005, 0.02])
    assert found.batch_s == pytest.approx(0.026)
    assert dict(found.batch_times)[math.inf] == 4


def test_batches_scatter_as_their_histogram_does() -> None:
    factors = np.array(scatter_of([(0.010, 0.0), (0.020, 90.0), (0.040, 100.0), (math.inf, 100.0)]))
    assert factors.mean() == pytest.approx(1)
    mean_s = 0.9 * 0.015 + 0.1 * 0.030
    assert factors.min() * mean_s == pytest.approx(0.010, rel=0.01)
    assert factors.max() * mean_s == pytest.approx(0.040, rel=0.01)
    assert (factors * mean_s > 0.020).mean() == pytest.approx(0.1)


def test_nothing_counted_does_not_scatter() -> None:
    assert scatter_of([]) == scatter_of([(0.01, 0.0), (math.inf, 0.0)]) == (1.0,)
