"""Counts and histograms against lists of what was counted."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import histograms
from kernels.histograms import NS, counts_into

TIMES = np.array([0.001, 0.002, 0.004, 0.1])
SIZES = np.array([1.0, 2.0, 4.0])
ANSWERED = 0
PLACES = np.array([1, *range(2, 38, 6), 38, 43, 47, 51])
"""Of ROWS, six histograms of times, one of sizes, two counts for each size, and a moment."""
N_CELLS = PLACES[-1] + 1

seconds = st.one_of(st.sampled_from([0.0, *TIMES, 1e-9, 99.0]), st.floats(0, 1000))
requests = st.lists(st.tuples(st.integers(0, 5), *[seconds] * 5), max_size=20)
batches = st.lists(st.tuples(st.integers(0, 9), seconds, st.integers(0, 2**40)), max_size=20)


def bucket_of(value: float, bounds: np.ndarray) -> int:
    return next((place for place, bound in enumerate(bounds) if value <= bound), len(bounds))


def histogram(values: list[float], bounds: np.ndarray, unit: float) -> list[float]:
    found = [bucket_of(value, bounds) for value in values]
    counts = [found.count(place) for place in range(len(bounds) + 1)]
    return [*counts, sum(round(value * unit) for value in values)]


@settings(deadline=None)  # the first compiles
@given(requests, batches)
def test_all_is_counted_where_it_belongs(
    requests: list[tuple[int, float, float, float, float, float]], batches: list[tuple[int, float, int]]
) -> None:
    cells = np.zeros(N_CELLS, np.int64)
    count_request, count_batch = counts_into(cells, TIMES, SIZES, PLACES)
    for request in requests:
        count_request(ANSWERED, *request)
    for batch in batches:
        count_batch(*batch)
    expected = [len(requests), sum(n_rows for n_rows, *_ in requests)]
    for place in range(5):
        expected += histogram([times[place] for _, *times in requests], TIMES, NS)
    expected += histogram([cost_s for _, cost_s, _ in batches], TIMES, NS)
    expected += histogram([n_rows for n_rows, *_ in batches], SIZES, 1)
    by_size = [[batch for batch in batches if bucket_of(batch[0], SIZES) == size] for size in range(4)]
    expected += [sum(round(cost_s * NS) for _, cost_s, _ in size) for size in by_size]
    expected += [sum(n_rows for n_rows, *_ in size) for size in by_size]
    expected.append(batches[-1][2] if batches else 0)
    assert cells.tolist() == expected


def test_the_example_of_the_module() -> None:
    cells = np.zeros(N_CELLS, np.int64)
    _, count_batch = counts_into(cells, TIMES, SIZES, PLACES)
    for n_rows in (1, 3, 9):
        count_batch(n_rows, 0.0, 0)
    at = PLACES[histograms.BATCH_SIZE]
    assert cells[at : at + 5].tolist() == [1, 0, 1, 1, 13]
