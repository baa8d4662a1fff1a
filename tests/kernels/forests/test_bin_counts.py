"""Counts of bins are the oracle's, however the rows were cut into batches and whichever door they took."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forests.bin_counts import COUNTED, SEEN, BinCounter
from kernels.forests.binning import Binning
from tests.kernels.drawn_forests import Shape, chains_of, random_forest, random_rows
from tests.reference import bin_counts

N_ROWS = 300


def edges_of(binning, column):
    """The edges of a numeric bin column, from the last level of its search."""
    first = binning.columns["start"][column][binning.columns["levels"][column] - 1]
    return binning.edges[first : first + binning.n_bins[column] - 2]


def batches(X, cuts):
    return np.split(X, sorted(cuts))


@settings(max_examples=60, deadline=None)
@given(
    n_thresholds=st.sampled_from([1, 16, 300, 1000]),
    flush_tiny=st.booleans(),
    stride=st.sampled_from([1, 3, 16, 1000]),
    dtype=st.sampled_from([np.float32, np.float64]),
    cuts=st.lists(st.integers(0, N_ROWS), max_size=6),
    seed=st.integers(0, 2**32),
)
def test_counts_are_the_oracles(n_thresholds, flush_tiny, stride, dtype, cuts, seed):
    random = np.random.default_rng(seed)
    shape = Shape(n_trees=30, n_thresholds=n_thresholds, categorical=0.0, flush_tiny=flush_tiny)
    forest = random_forest(shape, random)
    X = random_rows(forest, N_ROWS, dtype, random)
    binning = Binning.of(forest, dtype)
    counter = BinCounter(binning, stride)
    by_rows, by_columns = counter.nothing(), counter.nothing()

    for batch in batches(X, cuts):
        counter.count_rows(batch, by_rows)
        counter.count_columns([np.ascontiguousarray(x) for x in batch.T], len(batch), by_columns)

    expected = [
        bin_counts(edges_of(binning, column).tolist(), X[:, feature].tolist(), stride)
        for column, feature in enumerate(counter.features)
    ]
    assert by_rows[:-2].tolist() == [count for counts in expected for count in counts]
    assert by_columns.tolist() == by_rows.tolist()
    assert by_rows[SEEN] == N_ROWS
    assert by_rows[COUNTED] == len(range(0, N_ROWS, stride))
    assert counter.missing(by_rows).tolist() == [counts[-1] for counts in expected]
    assert counter.out_of_range(by_rows).tolist() == [[counts[0], counts[-2]] for counts in expected]


def test_counts_of_batches_counted_apart_add_up_to_those_of_the_whole():
    random = np.random.default_rng(1)
    forest = random_forest(Shape(n_trees=30), random)
    X = random_rows(forest, N_ROWS, np.float32, random)
    counter = BinCounter(Binning.of(forest, np.float32), stride=1)
    whole, total = counter.nothing(), counter.nothing()
    counter.count_rows(X, whole)

    for batch in batches(X, [1, 8, 8, 170]):
        counts = counter.nothing()
        counter.count_rows(batch, counts)
        total += counts

    assert total.tolist() == whole.tolist()


def test_codes_that_no_set_tells_apart_share_a_count():
    random = np.random.default_rng(2)
    forest = random_forest(Shape(n_trees=30, n_features=1, categorical=1.0), random)
    counter = BinCounter(Binning.of(forest, np.float32), stride=1)
    counts = counter.nothing()

    counter.count_rows(np.array([[np.nan], [np.nan], [1e9], [-5.0], [1e30]], np.float32), counts)

    assert counter.missing(counts).tolist() == [2]
    assert counter.out_of_range(counts).tolist() == [[0, 0]]
    assert sorted(counts[:-2].tolist())[-2:] == [2, 3]


@pytest.mark.parametrize("n_rows", [0, 1, 2047, 2048, 2049])
def test_every_sixteenth_row_is_counted_unless_said_otherwise(n_rows):
    counter = BinCounter(Binning.of(chains_of(np.arange(100.0), 10), np.float64))
    counts = counter.nothing()

    counter.count_rows(np.zeros((n_rows, 1)), counts)

    assert counts[COUNTED] == counts[:-2].sum() == -(-n_rows // 16)


def test_a_feature_of_a_hundred_thousand_thresholds_has_two_columns():
    counter = BinCounter(Binning.of(chains_of(np.arange(100_000.0), 63), np.float64), stride=1)
    counts = counter.nothing()

    counter.count_rows(np.array([[np.nan], [-1.0], [1e9], [70_000.5]]), counts)

    assert counter.features.tolist() == [0, 0]
    assert counter.missing(counts).tolist() == [1, 1]
    assert counts[:-2].sum() == 2 * 4
