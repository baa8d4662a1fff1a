"""The plain traversal gives the oracle's bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forests.traversal import Traversal
from tests.kernels.drawn_forests import Shape, random_forest, random_rows, shapes
from tests.reference import bits, forest_margins


def outputs(forest, n_rows):
    return np.full((n_rows, forest.n_outputs), np.nan, np.float32 if forest.single else np.float64)


@settings(max_examples=60, deadline=None)
@given(shape=shapes, seed=st.integers(0, 2**32), dtype=st.sampled_from([np.float32, np.float64]))
def test_rows_and_columns_have_the_bits_of_the_oracle(shape, seed, dtype):
    random = np.random.default_rng(seed)
    forest = random_forest(shape, random)
    X = random_rows(forest, 12, dtype, random)
    expected = bits(forest_margins(forest, X))
    kernel = Traversal(forest)
    by_rows, by_columns = outputs(forest, 12), outputs(forest, 12)

    kernel.score_rows(X, by_rows)
    kernel.score_columns([np.ascontiguousarray(column) for column in X.T], by_columns)

    assert bits(by_rows) == expected
    assert bits(by_columns) == expected


def test_columns_longer_than_a_tile_give_the_same_bits_as_rows():
    random = np.random.default_rng(1)
    forest = random_forest(Shape(n_outputs=3), random)
    X = random_rows(forest, 2500, np.float32, random)
    by_rows, by_columns = outputs(forest, 2500), outputs(forest, 2500)

    kernel = Traversal(forest)
    kernel.score_rows(X, by_rows)
    kernel.score_columns([np.ascontiguousarray(column) for column in X.T], by_columns)

    assert bits(by_rows) == bits(by_columns)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_rows_are_scored_as_zero_rows(dtype):
    forest = random_forest(Shape(), np.random.default_rng(2))
    out = outputs(forest, 0)

    Traversal(forest).score_rows(np.empty((0, 4), dtype), out)
    Traversal(forest).score_columns([np.empty(0, dtype)] * 4, out)

    assert out.shape == (0, 1)
