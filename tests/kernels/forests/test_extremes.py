"""Forests and rows at the ends of what is allowed have the bits of the plain traversal, or are declined."""

import numpy as np
import pytest

from kernels.forests.binning import MAX_EDGES
from kernels.forests.blended_trees import BlendedTrees
from kernels.forests.choice import choose
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
)
from tests.reference import bits, forest_margins

KERNELS = [IntervalMasks, Interleaved, BlendedTrees, choose]


def assert_exact(kernel, forest, X):
    expected = bits(scored(Traversal(forest), forest, X))
    assert bits(scored(kernel, forest, X)) == expected
    assert bits(scored_by_columns(kernel, forest, X)) == expected
    assert bits(scored(kernel, forest, X[:1])) == expected[: forest.n_outputs]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("n_thresholds", [MAX_EDGES - 1, MAX_EDGES, MAX_EDGES + 1, 100_000, 2 * MAX_EDGES])
def test_more_thresholds_than_a_column_holds_are_exact(kernel, n_thresholds):
    thresholds = np.sort(np.random.default_rng(0).normal(size=n_thresholds))
    forest = chains_of(thresholds, 63)
    some = thresholds[[0, 1, n_thresholds // 2, min(MAX_EDGES, n_thresholds) - 1, -2, -1]]
    beside = [np.nextafter(some, np.inf), np.nextafter(some, -np.inf), [np.nan, np.inf, -np.inf, 0.0, -0.0]]
    X = np.concatenate([some, *beside])[:, None]

    assert_exact(kernel(forest, np.float64), forest, X)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("n_trees", [0, 1, 200])
@pytest.mark.parametrize("n_features", [0, 3])
def test_trees_without_a_split_add_their_leaf(kernel, n_trees, n_features):
    forest = random_forest(
        Shape(n_trees=n_trees, max_leaves=1, n_features=n_features, n_outputs=2), np.random.default_rng(1)
    )
    X = np.zeros((7, n_features), np.float32)

    assert_exact(kernel(forest, np.float32), forest, X)
    assert bits(scored(kernel(forest, np.float32), forest, X)) == bits(forest_margins(forest, X))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, 1e300])
@pytest.mark.parametrize("flush_tiny", [False, True])
def test_rows_of_one_odd_value_are_exact(kernel, value, flush_tiny):
    forest = random_forest(
        Shape(n_trees=40, max_leaves=32, flush_tiny=flush_tiny, categorical=0.3), np.random.default_rng(2)
    )
    X = np.full((9, forest.n_features), value)

    assert bits(scored(kernel(forest, np.float64), forest, X)) == bits(forest_margins(forest, X))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_rows_are_scored_as_zero_rows(kernel, dtype):
    forest = random_forest(Shape(n_trees=40), np.random.default_rng(3))
    made = kernel(forest, dtype)
    X = np.empty((0, forest.n_features), dtype)

    assert scored(made, forest, X).shape == (0, 1)
    assert scored_by_columns(made, forest, X).shape == (0, 1)


@pytest.fixture(scope="module")
def wide():
    return random_forest(Shape(n_trees=700, max_leaves=32, n_features=10_000), np.random.default_rng(4))


@pytest.mark.parametrize("kernel", KERNELS)
def test_ten_thousand_features_are_exact(kernel, wide):
    assert len(np.unique(wide.feature)) > 5_000
    X = random_rows(wide, 40, np.float32, np.random.default_rng(5))

    assert_exact(kernel(wide, np.float32), wide, X)
