"""Interval masks give the oracle's bits: at every door, for every number of rows, on every processor."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forests.binning import Binning, Unsuited
from kernels.forests.blended_trees import BlendedTrees
from kernels.forests.interleaved import Interleaved
from kernels.forests.interval_masks import BLOCKS, CHUNK_BINS, CHUNK_ROWS, LEAF_BYTES, IntervalMasks
from kernels.forests.simd import STACK_BYTES
from kernels.forests.traversal import Traversal
from tests.kernels import drawn_forests
from tests.kernels.drawn_forests import (
    LEAF,
    Shape,
    chains_of,
    random_forest,
    random_rows,
    scored,
    scored_by_columns,
    shapes,
)
from tests.reference import bits, forest_margins

DTYPES = [np.float32, np.float64]


@settings(max_examples=150, deadline=None)
@given(
    shape=shapes.filter(lambda shape: shape.max_leaves <= (32 if shape.symmetric else 64)),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from(DTYPES),
)
def test_rows_and_columns_have_the_bits_of_the_oracle(shape, seed, dtype):
    random = np.random.default_rng(seed)
    forest = random_forest(shape, random)
    X = random_rows(forest, 11, dtype, random)
    expected = bits(forest_margins(forest, X))
    kernel = IntervalMasks(forest, dtype)

    assert bits(scored(kernel, forest, X)) == expected
    assert bits(scored_by_columns(kernel, forest, X)) == expected
    assert bits(scored(kernel, forest, X[:1])) == expected[: forest.n_outputs]


@pytest.mark.parametrize(
    "n_rows", [0, 1, 2, 3, 4, 5, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1, 2 * CHUNK_ROWS + 7]
)
@pytest.mark.parametrize("max_leaves", [8, 16, 32, 64])
def test_a_rows_bits_do_not_depend_on_how_many_rows_come_with_it(n_rows, max_leaves):
    random = np.random.default_rng(n_rows)
    forest = random_forest(Shape(n_trees=140, max_leaves=max_leaves, n_outputs=2), random)
    X = random_rows(forest, n_rows, np.float32, random)
    kernel = IntervalMasks(forest, np.float32)

    together = scored(kernel, forest, X)

    assert bits(together) == bits(scored(Traversal(forest), forest, X))
    assert bits(together) == bits(scored_by_columns(kernel, forest, X))
    assert all(
        bits(scored(kernel, forest, X[row : row + 1])) == bits(together[row]) for row in range(0, n_rows, 97)
    )


@pytest.mark.parametrize("n_thresholds", [15, 16, 255, 256, 4095, 4096])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_feature_may_have_any_number_of_thresholds(n_thresholds, dtype):
    thresholds = np.linspace(-3, 3, n_thresholds)
    forest = chains_of(thresholds, 63)
    kernel = IntervalMasks(forest, dtype)
    at = thresholds.astype(dtype)
    values = [
        at,
        np.nextafter(at, dtype(np.inf)),
        np.nextafter(at, dtype(-np.inf)),
        dtype([np.nan, np.inf, -np.inf]),
    ]
    X = np.concatenate(values)[:, None]
    together = scored(kernel, forest, X)

    assert bits(together) == bits(scored(Traversal(forest), forest, X))
    alone = [*range(0, len(X), 97), len(X) - 3]  # the last one is NaN
    assert all(bits(scored(kernel, forest, X[row : row + 1])) == bits(together[row]) for row in alone)


def test_a_hundred_thousand_thresholds_on_one_feature_are_exact():
    thresholds = np.random.default_rng(3).normal(size=100_000)
    forest = chains_of(thresholds, 63)
    kernel = IntervalMasks(forest, np.float64)
    X = np.concatenate([thresholds[::500], np.nextafter(thresholds[::500], np.inf), [np.nan, np.inf]])[
        :, None
    ]

    assert bits(scored(kernel, forest, X)) == bits(scored(Traversal(forest), forest, X))


def test_wide_rows_are_scored_in_shorter_chunks_with_the_same_bits():
    random = np.random.default_rng(5)
    forest = random_forest(Shape(n_trees=300, max_leaves=32, n_features=1500), random)
    X = random_rows(forest, 400, np.float32, random)
    kernel = IntervalMasks(forest, np.float32)
    assert CHUNK_BINS // 1500 < 400

    assert bits(scored(kernel, forest, X)) == bits(scored(Traversal(forest), forest, X))
    assert bits(scored_by_columns(kernel, forest, X)) == bits(scored(Traversal(forest), forest, X))


@pytest.mark.parametrize("n_rows", [1, 7])
@pytest.mark.parametrize("n_features", [300, 1500])
def test_few_wide_rows_are_exact_whether_or_not_their_bins_fit_the_stack(n_features, n_rows):
    random = np.random.default_rng(n_rows)
    forest = random_forest(Shape(n_trees=300, max_leaves=32, n_features=n_features), random)
    X = random_rows(forest, n_rows, np.float32, random)
    kernel = IntervalMasks(forest, np.float32)
    n_columns = len(Binning.of(forest, np.float32).columns)
    one_row_fits = LEAF_BYTES + 10 * n_columns <= STACK_BYTES
    assert one_row_fits == (n_features == 300)

    assert bits(scored(kernel, forest, X)) == bits(scored(Traversal(forest), forest, X))


@pytest.mark.parametrize(("n_features", "n_sparse"), [(9, 0), (200, 1), (3000, 5)])
def test_one_row_looks_up_all_columns_or_in_blocks_that_use_few_their_own(n_features, n_sparse):
    """There are five blocks, and in the last one are only ten trees."""
    random = np.random.default_rng(n_features)
    forest = random_forest(Shape(n_trees=138, max_leaves=32, n_features=n_features), random)
    X = random_rows(forest, 20, np.float32, random)
    kernel = IntervalMasks(forest, np.float32)
    blocks = kernel.arrays[BLOCKS]
    assert np.count_nonzero(blocks["end_own"] > blocks["first_own"]) == n_sparse

    expected = scored(Traversal(forest), forest, X)
    for row in range(len(X)):
        assert bits(scored(kernel, forest, X[row : row + 1])) == bits(expected[row : row + 1])


@pytest.mark.parametrize("bare_ones_first", [True, False])
def test_a_block_of_trees_that_are_single_leaves_looks_up_nothing_and_adds_them(monkeypatch, bare_ones_first):
    grown = iter([bare_ones_first] * 128 + [not bare_ones_first] * 128)
    tree = drawn_forests.random_tree
    monkeypatch.setattr(drawn_forests, "random_tree", lambda *how: [LEAF] if next(grown) else tree(*how))
    random = np.random.default_rng(7)
    forest = random_forest(Shape(n_trees=256, max_leaves=8), random)
    X = random_rows(forest, 9, np.float32, random)
    kernel = IntervalMasks(forest, np.float32)
    blocks = kernel.arrays[BLOCKS]
    assert sorted(blocks["end_pair"] > blocks["first_pair"]) == [False, True]

    expected = scored(Traversal(forest), forest, X)
    assert bits(scored(kernel, forest, X)) == bits(expected)
    for row in range(len(X)):
        assert bits(scored(kernel, forest, X[row : row + 1])) == bits(expected[row : row + 1])


def test_rows_that_may_not_be_written_have_the_same_bits():
    random = np.random.default_rng(6)
    forest = random_forest(Shape(n_trees=40, max_leaves=32), random)
    X = random_rows(forest, 9, np.float32, random)
    kernel = IntervalMasks(forest, np.float32)
    expected = bits(scored(kernel, forest, X))
    X.flags.writeable = False

    assert bits(scored(kernel, forest, X)) == expected


def test_a_tree_of_more_than_64_leaves_is_declined():
    with pytest.raises(Unsuited):
        IntervalMasks(chains_of(np.arange(64.0), 64), np.float32)


@pytest.mark.parametrize("max_leaves", [1, 8, 64])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_symmetric_trees_of_up_to_256_leaves_share_a_lane_of_8_bits(max_leaves, n_outputs):
    random = np.random.default_rng(max_leaves)
    shape = Shape(n_trees=300, max_leaves=max_leaves, n_outputs=n_outputs, symmetric=True)
    forest = random_forest(shape, random)
    X = random_rows(forest, 500, np.float32, random)
    kernel = IntervalMasks(forest, np.float32)

    assert kernel.n_lookups <= 8 * -(-300 // 128)
    assert bits(scored(kernel, forest, X)) == bits(scored(Traversal(forest), forest, X))


@pytest.mark.parametrize("kernel", [IntervalMasks, Interleaved, BlendedTrees])
def test_a_call_keeps_alive_the_tables_it_reads(kernel):
    forest = random_forest(Shape(n_trees=3, max_leaves=8), np.random.default_rng(0))
    made = kernel(forest, np.float32)
    tables = [weakref.ref(array) for array in made.arrays]

    call = made.score_rows
    del made
    gc.collect()

    assert callable(call)
    assert all(table() is not None for table in tables)


def test_threads_do_not_disturb_each_other():
    random = np.random.default_rng(4)
    forest = random_forest(Shape(n_trees=70, max_leaves=32), random)
    kernel = IntervalMasks(forest, np.float32)
    batches = [random_rows(forest, 1 + 13 * n, np.float32, random) for n in range(40)]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda X: scored(kernel, forest, X), batches))

    assert all(
        bits(result) == bits(scored(Traversal(forest), forest, X))
        for X, result in zip(batches, results, strict=True)
    )
