"""Counts of bins are the oracle's, however the rows were cut into batches and whichever door they took."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forests.bin_counts import SEEN, STRIDE
from kernels.forests.binning import Binning, Unsuited, set_members
from kernels.forests.blended_trees import BlendedTrees
from kernels.forests.choice import Choice, choose
from kernels.forests.counting import Counting
from kernels.forests.dispatch import BATCH_ROWS
from kernels.forests.interleaved import Interleaved
from kernels.forests.interval_masks import IntervalMasks
from kernels.forests.traversal import Traversal
from tests.kernels.drawn_forests import (
    Shape,
    chains_of,
    random_forest,
    random_rows,
    scored,
    scored_by_columns,
    shapes,
)
from tests.reference import bin_counts

N_ROWS = 300


def edges_of(binning, column):
    """The edges of a numeric bin column, from the last level of its search."""
    first = binning.columns["start"][column][binning.columns["levels"][column] - 1]
    return binning.edges[first : first + binning.n_bins[column] - 2]


def kinds_of_codes(forest, feature, x):
    """How many of ``x`` are alike to all sets that the forest asks of the feature, and how many are NaN."""
    nodes = (forest.feature == feature) & (forest.category_set >= 0)
    members = set_members(forest, np.unique(forest.category_set[nodes]))
    n_codes = members.shape[1] - 1
    codes = x[~np.isnan(x)].astype(np.float64)
    known = (codes > -1) & (codes < n_codes)
    kinds = members[:, np.where(known, codes, n_codes).astype(np.int64)]
    return np.unique(kinds, axis=1, return_counts=True)[1], np.isnan(x).sum()


def counting(kind, forest, dtype):
    kernel = kind(forest, dtype)
    return kernel, Counting(Choice(dict.fromkeys(BATCH_ROWS, kernel)), forest, dtype)


@settings(max_examples=80, deadline=None)
@given(
    shape=shapes,
    kind=st.sampled_from([IntervalMasks, Interleaved, BlendedTrees]),
    dtype=st.sampled_from([np.float32, np.float64]),
    cuts=st.lists(st.integers(0, N_ROWS), max_size=6),
    seed=st.integers(0, 2**32),
)
def test_counts_are_the_oracles_and_scores_keep_their_bits(shape, kind, dtype, cuts, seed):
    random = np.random.default_rng(seed)
    forest = random_forest(shape, random)
    X = random_rows(forest, N_ROWS, dtype, random)
    try:
        kernel, by_rows = counting(kind, forest, dtype)
    except Unsuited:
        return
    _, by_columns = counting(kind, forest, dtype)

    for batch in np.split(X, sorted(cuts)):
        assert scored(by_rows, forest, batch).tobytes() == scored(kernel, forest, batch).tobytes()
        assert (
            scored_by_columns(by_columns, forest, batch).tobytes() == scored(kernel, forest, batch).tobytes()
        )

    counts, bins, binning = by_rows.counts(), by_rows.bins, Binning.of(forest, dtype)
    assert counts.tolist() == by_columns.counts().tolist()
    assert counts[SEEN] == N_ROWS
    for column, feature in enumerate(bins.features):
        x, found = X[:, feature], bins.of_column(counts, column)
        if binning.columns["levels"][column]:
            expected = bin_counts(edges_of(binning, column).tolist(), x.tolist(), STRIDE)
            assert found.tolist() == expected
            assert bins.missing(counts)[column] == expected[-1]
            assert bins.out_of_range(counts)[column].tolist() == [expected[0], expected[-2]]
        else:
            kinds, n_missing = kinds_of_codes(forest, feature, x[::STRIDE])
            assert sorted(found[:-1][found[:-1] > 0].tolist()) == sorted(kinds.tolist())
            assert found[-1] == bins.missing(counts)[column] == n_missing
            assert bins.out_of_range(counts)[column].tolist() == [0, 0]


@pytest.mark.parametrize("n_rows", [0, 1, 2047, 2048, 2049])
def test_one_row_in_a_stride_is_counted(n_rows):
    forest = chains_of(np.arange(100.0), 10)
    _, counter = counting(IntervalMasks, forest, np.float64)

    scored(counter, forest, np.zeros((n_rows, 1)))

    assert counter.counts()[SEEN] == n_rows
    assert counter.bins.of_column(counter.counts(), 0).sum() == -(-n_rows // STRIDE)


def test_rows_scored_one_by_one_are_counted_like_those_of_a_batch():
    random = np.random.default_rng(1)
    forest = random_forest(Shape(n_trees=30), random)
    X = random_rows(forest, 100, np.float32, random)
    (_, whole), (_, single) = (counting(IntervalMasks, forest, np.float32) for _ in range(2))

    scored(whole, forest, X)
    for row in range(len(X)):
        scored(single, forest, X[row : row + 1])

    assert single.counts().tolist() == whole.counts().tolist()


def test_kernels_that_take_turns_by_size_of_batch_count_together():
    random = np.random.default_rng(2)
    forest = random_forest(Shape(n_trees=30), random)
    masks, walks = IntervalMasks(forest, np.float32), Interleaved(forest, np.float32)
    turns = dict(zip(BATCH_ROWS, (masks, walks, masks, walks), strict=True))
    counter = Counting(Choice(turns), forest, np.float32)

    for n_rows in (STRIDE, 10 * STRIDE, 30 * STRIDE):
        scored(counter, forest, random_rows(forest, n_rows, np.float32, random))

    counts = counter.counts()
    assert counts[SEEN] == 41 * STRIDE
    assert {counter.bins.of_column(counts, column).sum() for column in range(len(counter.bins.features))} == {
        41
    }


def test_no_count_is_lost_among_threads():
    random = np.random.default_rng(3)
    forest = random_forest(Shape(n_trees=30), random)
    X = random_rows(forest, STRIDE, np.float32, random)
    _, counter = counting(IntervalMasks, forest, np.float32)
    together = threading.Barrier(4)

    def score_often():
        together.wait()
        for _ in range(500):
            scored(counter, forest, X)

    threads = [threading.Thread(target=score_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    _, once = counting(IntervalMasks, forest, np.float32)
    scored(once, forest, X)
    assert counter.counts().tolist() == (2000 * once.counts()).tolist()


def test_counts_start_from_nothing_again():
    random = np.random.default_rng(4)
    forest = random_forest(Shape(n_trees=30), random)
    _, counter = counting(Interleaved, forest, np.float32)
    scored(counter, forest, random_rows(forest, 50, np.float32, random))

    counter.forget()

    assert not counter.counts().any()


def test_a_feature_of_a_hundred_thousand_thresholds_has_two_columns():
    forest = chains_of(np.arange(100_000.0), 63)
    counter = Counting(choose(forest, np.float64), forest, np.float64)

    scored(counter, forest, np.repeat([[np.nan], [-1.0], [1e9], [70_000.5]], STRIDE, axis=0))

    counts = counter.counts()
    assert counter.bins.features.tolist() == [0, 0]
    assert counter.bins.missing(counts).tolist() == [1, 1]
    assert [counter.bins.of_column(counts, column).sum() for column in (0, 1)] == [4, 4]


def test_a_kernel_without_bins_counts_nothing():
    forest = random_forest(Shape(), np.random.default_rng(5))
    with pytest.raises(Unsuited):
        Counting(Choice(dict.fromkeys(BATCH_ROWS, Traversal(forest))), forest, np.float32)
