"""What the CUDA twins must do; runs in Numba's simulator (see test_device.py) or on a GPU:

python -m pytest tests/kernels/gpu/twins.py
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forests.interval_masks import IntervalMasks
from kernels.forests.traversal import Traversal
from kernels.gpu import device
from kernels.gpu.choice import choose
from kernels.gpu.device import gpu_is_available
from kernels.gpu.interval_masks import GpuIntervalMasks
from kernels.gpu.linear import GpuLinear
from kernels.gpu.traversal import GpuTraversal
from kernels.linear.model import Linear
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

pytestmark = pytest.mark.skipif(not gpu_is_available(), reason="needs a GPU or NUMBA_ENABLE_CUDASIM=1")

SHAPES = {
    "categories": Shape(n_trees=7, categorical=0.5),
    "lightgbm": Shape(n_trees=7, flush_tiny=True, n_outputs=3),
    "xgboost": Shape(n_trees=7, less=True, single=True),
    "vector leaves": Shape(n_trees=5, n_outputs=3, vector_leaves=True, average=True),
    "deep": Shape(n_trees=2, max_leaves=150, chain=True, scaled=True),
    "no trees": Shape(n_trees=0),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("n_rows", [0, 1, 150])
def test_the_forest_twin_has_the_bits_of_the_cpu(shape, dtype, n_rows):
    random = np.random.default_rng(3)
    forest = random_forest(shape, random)
    X = random_rows(forest, n_rows, dtype, random)
    expected, by_rows, by_columns = (
        np.full((n_rows, forest.n_outputs), np.nan, np.float32 if forest.single else np.float64)
        for _ in range(3)
    )

    Traversal(forest).score_rows(X, expected)
    twin = GpuTraversal(forest)
    twin.score_rows(X, by_rows)
    twin.score_columns([np.ascontiguousarray(column) for column in X.T], by_columns)

    assert bits(by_rows) == bits(expected)
    assert bits(by_columns) == bits(expected)


@settings(max_examples=25, deadline=None)
@given(
    shape=shapes.filter(lambda shape: shape.max_leaves <= (32 if shape.symmetric else 64)),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_masks_have_the_bits_of_the_oracle_and_of_the_cpu(shape, seed, dtype):
    random = np.random.default_rng(seed)
    forest = random_forest(shape, random)
    X = random_rows(forest, 11, dtype, random)
    expected = bits(forest_margins(forest, X))
    twin = GpuIntervalMasks(forest, dtype)

    assert bits(scored(IntervalMasks(forest, dtype), forest, X)) == expected
    assert bits(scored(twin, forest, X)) == expected
    assert bits(scored_by_columns(twin, forest, X)) == expected


MASKS = {
    "8 bits": Shape(n_trees=140, max_leaves=8, flush_tiny=True),
    "16 bits": Shape(n_trees=70, max_leaves=16, n_outputs=3),
    "32 bits": Shape(n_trees=40, max_leaves=32, less=True, single=True),
    "64 bits": Shape(n_trees=20, max_leaves=64, categorical=0.5),
    "symmetric": Shape(n_trees=140, max_leaves=64, symmetric=True, scaled=True),
    "vector leaves": Shape(n_trees=5, n_outputs=3, vector_leaves=True, average=True),
    "one leaf": Shape(n_trees=3, max_leaves=1),
    "no trees": Shape(n_trees=0),
}


@pytest.mark.parametrize("shape", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("n_rows", [0, 1, 129])  # a block has 128
def test_masks_of_every_lane_have_the_bits_of_the_cpu(shape, n_rows):
    random = np.random.default_rng(5)
    forest = random_forest(shape, random)
    X = random_rows(forest, n_rows, np.float32, random)
    expected = bits(scored(Traversal(forest), forest, X))
    twin = GpuIntervalMasks(forest, np.float32)

    assert bits(scored(twin, forest, X)) == expected
    assert bits(scored_by_columns(twin, forest, X)) == expected


@pytest.mark.parametrize(
    ("n_thresholds", "n_tried"),
    [(15, 15), (16, 16), (256, 40), (4097, 40), (70_000, 4)],  # the last has two columns
)
def test_masks_take_any_number_of_thresholds(n_thresholds, n_tried):
    thresholds = np.sort(np.random.default_rng(6).normal(size=n_thresholds))
    forest = chains_of(thresholds, 63)
    at = thresholds[np.linspace(0, n_thresholds - 1, n_tried).astype(int)]
    X = np.concatenate([at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf), [np.nan, np.inf, -np.inf]])

    twin = GpuIntervalMasks(forest, np.float64)

    assert bits(scored(twin, forest, X[:, None])) == bits(scored(Traversal(forest), forest, X[:, None]))


def test_features_that_no_tree_tests_are_not_sent():
    random = np.random.default_rng(7)
    forest = random_forest(Shape(n_trees=2, max_leaves=3, n_features=19), random)
    X = random_rows(forest, 9, np.float64, random)
    unused = np.setdiff1d(np.arange(19), forest.feature)
    twin = GpuIntervalMasks(forest, np.float64)
    columns = [None if feature in unused else column.copy() for feature, column in enumerate(X.T)]
    by_columns = np.empty((9, 1))
    twin.score_columns(columns, by_columns)

    assert len(unused) > 10
    expected = bits(scored(Traversal(forest), forest, X))
    assert bits(scored(twin, forest, X)) == bits(by_columns) == expected


@pytest.mark.parametrize("twin", [GpuIntervalMasks, lambda forest, _: GpuTraversal(forest)])
def test_more_rows_than_the_device_takes_at_once_go_in_pieces(twin, monkeypatch):
    monkeypatch.setattr(device, "CHUNK_ROWS", 20)
    random = np.random.default_rng(8)
    forest = random_forest(Shape(n_outputs=2), random)
    X = random_rows(forest, 47, np.float32, random)
    expected = bits(scored(Traversal(forest), forest, X))

    assert bits(scored(twin(forest, np.float32), forest, X)) == expected
    assert bits(scored_by_columns(twin(forest, np.float32), forest, X)) == expected


def test_small_trees_over_few_features_are_for_masks_and_large_ones_for_the_traversal():
    small = random_forest(Shape(n_trees=140, max_leaves=32), np.random.default_rng(0))

    assert choose(small, np.float32).name == "interval masks (CUDA)"
    assert choose(chains_of(np.arange(200.0), 100), np.float32).name == "traversal (CUDA)"


def test_between_the_two_a_trial_decides():
    wide = random_forest(Shape(n_trees=2, max_leaves=8, n_features=19), np.random.default_rng(0))

    kernel = choose(wide, np.float32, trial_rows=4)

    assert kernel.name in ("interval masks (CUDA)", "traversal (CUDA)")
    X = random_rows(wide, 5, np.float32, np.random.default_rng(1))
    assert bits(scored(kernel, wide, X)) == bits(scored(Traversal(wide), wide, X))


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("n_rows", [0, 1, 150])
def test_the_linear_twin_has_the_bits_of_the_cpu(n_outputs, n_rows):
    random = np.random.default_rng(4)
    coef, intercept = random.normal(size=(n_outputs, 7)), random.normal(size=n_outputs)
    X = random.normal(size=(n_rows, 7)).astype(np.float32)
    X[random.random(X.shape) < 0.02] = np.nan
    expected, by_rows, by_columns = (np.full((n_rows, n_outputs), -1.0) for _ in range(3))

    Linear(coef, intercept).score_rows(X, expected)
    twin = GpuLinear(coef, intercept)
    twin.score_rows(X, by_rows)
    twin.score_columns([np.ascontiguousarray(column) for column in X.T], by_columns)

    assert bits(by_rows) == bits(expected)
    assert bits(by_columns) == bits(expected)
