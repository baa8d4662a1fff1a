"""Blended trees give the oracle's bits: at both doors, for every number of rows and every window of edges."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forests.binning import Binning, Unsuited
from kernels.forests.blend_programs import MAX_LEAVES, WINDOW, BlendPrograms, lowest_edges
from kernels.forests.blended_trees import CHUNK_ROWS, SUMS_AT_ONCE, BlendedTrees
from kernels.forests.simd import BLEND_ROWS, VECTOR_BYTES
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
from tests.reference import bits, forest_margins

SIZES = [0, 1, 2, SUMS_AT_ONCE - 1, SUMS_AT_ONCE]
SIZES += [n + d for n in (VECTOR_BYTES, 2 * VECTOR_BYTES, BLEND_ROWS, CHUNK_ROWS) for d in (-1, 0, 1)]


@settings(max_examples=150, deadline=None)
@given(
    shape=shapes.filter(
        lambda shape: shape.max_leaves <= (MAX_LEAVES // 2 if shape.symmetric else MAX_LEAVES)
    ),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_rows_and_columns_have_the_bits_of_the_oracle(shape, seed, dtype):
    random = np.random.default_rng(seed)
    forest = random_forest(shape, random)
    X = random_rows(forest, 11, dtype, random)
    expected = bits(forest_margins(forest, X))
    kernel = BlendedTrees(forest, dtype)

    assert bits(scored(kernel, forest, X)) == expected
    assert bits(scored_by_columns(kernel, forest, X)) == expected


@pytest.mark.parametrize("n_rows", SIZES)
@pytest.mark.parametrize("max_leaves", [2, 31, MAX_LEAVES])
def test_a_rows_bits_do_not_depend_on_how_many_rows_come_with_it(n_rows, max_leaves):
    random = np.random.default_rng(n_rows)
    shape = Shape(n_trees=70, max_leaves=max_leaves, n_outputs=2, n_features=19, n_thresholds=400)
    forest = random_forest(shape, random)
    X = random_rows(forest, n_rows, np.float32, random)
    kernel = BlendedTrees(forest, np.float32)

    together = scored(kernel, forest, X)

    assert bits(together) == bits(scored(Traversal(forest), forest, X))
    assert bits(together) == bits(scored_by_columns(kernel, forest, X))


@pytest.mark.parametrize("n_thresholds", [1, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 5 * WINDOW + 7])
@pytest.mark.parametrize("missing_left", [False, True])
def test_every_edge_of_every_window_is_exact(n_thresholds, missing_left):
    thresholds = np.arange(float(n_thresholds))
    forest = chains_of(thresholds, 100)
    if missing_left:
        forest.rule[forest.feature >= 0] |= 1
    at = np.concatenate([thresholds, [np.nan, np.inf, -np.inf]])
    X = np.concatenate([at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf)])[:, None]

    found = scored(BlendedTrees(forest, np.float64), forest, X)

    assert bits(found) == bits(scored(Traversal(forest), forest, X))


def test_windows_begin_with_their_lowest_edge_column_by_column():
    edges = np.array([5, 5 + WINDOW - 1, 5 + WINDOW, -1, 900])
    columns = np.array([0, 0, 0, 1, 1])

    assert lowest_edges(columns, edges).tolist() == [5, 5, 5 + WINDOW, -1, 900]


def test_a_program_has_a_step_for_each_split_and_a_chain_for_each_smaller_side_of_several_leaves():
    forest = chains_of(np.arange(12.0), 4)
    programs = BlendPrograms.of(forest, Binning.of(forest, np.float64))

    assert len(programs.steps) == (forest.feature >= 0).sum()
    assert len(programs.chains) == forest.n_trees == len(programs.tree_chain) - 1
    assert programs.n_slots.tolist() == [1]


def test_trees_of_more_leaves_than_a_byte_counts_are_declined():
    thresholds = np.arange(float(MAX_LEAVES))
    assert BlendedTrees(chains_of(thresholds, MAX_LEAVES - 1), np.float64).name == "blended trees"
    with pytest.raises(Unsuited):
        BlendedTrees(chains_of(thresholds, MAX_LEAVES), np.float64)


def test_threads_do_not_disturb_each_other():
    random = np.random.default_rng(4)
    forest = random_forest(Shape(n_trees=70, max_leaves=32), random)
    kernel = BlendedTrees(forest, np.float32)
    batches = [random_rows(forest, 1 + 31 * n, np.float32, random) for n in range(40)]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda X: scored(kernel, forest, X), batches))

    for X, result in zip(batches, results, strict=True):
        assert bits(result) == bits(scored(Traversal(forest), forest, X))
