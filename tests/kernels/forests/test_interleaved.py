"""Interleaved traversal gives the oracle's bits, whether rows or trees fill its lanes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forests.interleaved import COLUMNS, FACES, LANES, Interleaved
from kernels.forests.simd import STACK_BYTES
from kernels.forests.traversal import Traversal
from tests.kernels.drawn_forests import Shape, random_forest, random_rows, scored, scored_by_columns, shapes
from tests.reference import bits, forest_margins


@settings(max_examples=150, deadline=None)
@given(shape=shapes, seed=st.integers(0, 2**32), dtype=st.sampled_from([np.float32, np.float64]))
def test_rows_and_columns_have_the_bits_of_the_oracle(shape, seed, dtype):
    random = np.random.default_rng(seed)
    forest = random_forest(shape, random)
    X = random_rows(forest, 11, dtype, random)
    expected = bits(forest_margins(forest, X))
    kernel = Interleaved(forest, dtype)

    assert bits(scored(kernel, forest, X)) == expected
    assert bits(scored_by_columns(kernel, forest, X)) == expected
    assert bits(scored(kernel, forest, X[:1])) == expected[: forest.n_outputs]


@pytest.mark.parametrize("n_rows", [0, 1, 2, 100, LANES - 1, LANES, LANES + 1, 3 * LANES + 5, 5000])
def test_a_rows_bits_do_not_depend_on_how_many_rows_come_with_it(n_rows):
    random = np.random.default_rng(n_rows)
    forest = random_forest(Shape(n_trees=140, max_leaves=300, n_outputs=2, n_features=19), random)
    X = random_rows(forest, n_rows, np.float32, random)
    kernel = Interleaved(forest, np.float32)

    together = scored(kernel, forest, X)

    assert bits(together) == bits(scored(Traversal(forest), forest, X))
    assert bits(together) == bits(scored_by_columns(kernel, forest, X))


@pytest.mark.parametrize("n_rows", [1, 20])
@pytest.mark.parametrize("n_features", [100, 4000])
def test_bits_are_the_same_whether_or_not_what_a_row_needs_fits_the_stack(n_features, n_rows):
    random = np.random.default_rng(n_features)
    forest = random_forest(Shape(n_trees=200, max_leaves=100, n_features=n_features), random)
    X = random_rows(forest, n_rows, np.float32, random)
    kernel = Interleaved(forest, np.float32)
    fits = 2 * n_rows * sum(len(kernel.arrays[part]) for part in (COLUMNS, FACES)) <= STACK_BYTES
    assert fits == (n_features == 100 and n_rows == 1)

    assert bits(scored(kernel, forest, X)) == bits(scored(Traversal(forest), forest, X))
