"""What the CUDA twins must do; runs in Numba's simulator (see test_device.py) or on a GPU:

python -m pytest tests/kernels/gpu/twins.py
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forests import interleaved
from kernels.forests.interleaved import Interleaved
from kernels.forests.traversal import Traversal
from kernels.gpu import staging
from kernels.gpu.binned_traversal import GpuBinnedTraversal
from kernels.gpu.choice import choose
from kernels.gpu.device import gpu_is_available, to_device, uninitialised
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

TWINS = [GpuBinnedTraversal, GpuTraversal]
SHAPES = {
    "categories": Shape(n_trees=7, categorical=0.5),
    "lightgbm": Shape(n_trees=7, flush_tiny=True, n_outputs=3),
    "xgboost": Shape(n_trees=7, less=True, single=True),
    "catboost": Shape(n_trees=9, max_leaves=64, symmetric=True, scaled=True),
    "vector leaves": Shape(n_trees=5, n_outputs=3, vector_leaves=True, average=True),
    "deep": Shape(n_trees=2, max_leaves=150, chain=True, scaled=True),
    "one leaf": Shape(n_trees=3, max_leaves=1),
    "no trees": Shape(n_trees=0),
}


@pytest.mark.parametrize("kind", TWINS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("n_rows", [0, 1, 150])
def test_a_forest_twin_has_the_bits_of_the_cpu(kind, shape, dtype, n_rows):
    random = np.random.default_rng(3)
    forest = random_forest(shape, random)
    X = random_rows(forest, n_rows, dtype, random)
    expected = bits(scored(Traversal(forest), forest, X))
    twin = kind(forest, dtype)

    assert bits(scored(twin, forest, X)) == expected
    assert bits(scored_by_columns(twin, forest, X)) == expected


@settings(max_examples=25, deadline=None)
@given(shape=shapes, seed=st.integers(0, 2**32), dtype=st.sampled_from([np.float32, np.float64]))
def test_walks_have_the_bits_of_the_oracle_and_of_the_cpu(shape, seed, dtype):
    random = np.random.default_rng(seed)
    forest = random_forest(shape, random)
    X = random_rows(forest, 11, dtype, random)
    expected = bits(forest_margins(forest, X))
    twin = GpuBinnedTraversal(forest, dtype)

    assert bits(scored(Interleaved(forest, dtype), forest, X)) == expected
    assert bits(scored(twin, forest, X)) == expected
    assert bits(scored_by_columns(twin, forest, X)) == expected


@pytest.mark.parametrize(
    ("n_thresholds", "n_tried"),
    [(15, 15), (16, 16), (256, 40), (4097, 40), (70_000, 4)],  # the last has two columns
)
def test_walks_take_any_number_of_thresholds(n_thresholds, n_tried):
    thresholds = np.sort(np.random.default_rng(6).normal(size=n_thresholds))
    forest = chains_of(thresholds, 63)
    at = thresholds[np.linspace(0, n_thresholds - 1, n_tried).astype(int)]
    X = np.concatenate([at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf), [np.nan, np.inf, -np.inf]])

    twin = GpuBinnedTraversal(forest, np.float64)

    assert bits(scored(twin, forest, X[:, None])) == bits(scored(Traversal(forest), forest, X[:, None]))


@pytest.mark.parametrize("kind", TWINS)
def test_features_that_no_tree_tests_are_not_sent(kind):
    random = np.random.default_rng(7)
    forest = random_forest(Shape(n_trees=2, max_leaves=3, n_features=19), random)
    X = random_rows(forest, 9, np.float64, random)
    unused = np.setdiff1d(np.arange(19), forest.feature)
    twin = kind(forest, np.float64)
    columns = [None if feature in unused else column.copy() for feature, column in enumerate(X.T)]
    by_columns = np.empty((9, 1))
    twin.score_columns(columns, by_columns)

    assert len(unused) > 10
    expected = bits(scored(Traversal(forest), forest, X))
    assert bits(scored(twin, forest, X)) == bits(by_columns) == expected


@pytest.mark.parametrize("kind", TWINS)
def test_more_rows_than_the_device_takes_at_once_go_in_pieces(kind, monkeypatch):
    monkeypatch.setattr(staging, "CHUNK_ROWS", 20)
    random = np.random.default_rng(8)
    forest = random_forest(Shape(n_outputs=2), random)
    twin = kind(forest, np.float32)
    for n_rows in (47, 3, 20, 101):
        X = random_rows(forest, n_rows, np.float32, random)
        expected = bits(scored(Traversal(forest), forest, X))

        assert bits(scored(twin, forest, X)) == expected
        assert bits(scored_by_columns(twin, forest, X)) == expected


def test_after_a_call_that_failed_the_next_one_is_right(monkeypatch):
    monkeypatch.setattr(staging, "CHUNK_ROWS", 10)
    random = np.random.default_rng(9)
    forest = random_forest(Shape(n_features=2), random)
    X = random_rows(forest, 45, np.float64, random)
    twin = GpuBinnedTraversal(forest, np.float64)
    left_alone = np.full((45, 1), -7.0)

    with pytest.raises(ValueError, match="broadcast"):
        twin.score_columns([X[:, 0].copy(), X[:25, 1].copy()], left_alone)

    assert (left_alone[30:] == -7).all()
    assert bits(scored_by_columns(twin, forest, X)) == bits(scored(Traversal(forest), forest, X))


def test_calls_from_several_threads_get_their_own_scores():
    random = np.random.default_rng(10)
    forest = random_forest(Shape(n_trees=3), random)
    twin = GpuBinnedTraversal(forest, np.float32)
    batches = [random_rows(forest, n_rows, np.float32, random) for n_rows in (1, 40, 7, 90, 3, 20)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda X: bits(scored_by_columns(twin, forest, X)), batches))

    assert found == [bits(scored(Traversal(forest), forest, X)) for X in batches]


def test_a_forest_too_large_for_tables_is_walked_without(monkeypatch):
    forest = random_forest(Shape(), np.random.default_rng(0))

    assert choose(forest, np.float32).name == "binned traversal (CUDA)"
    monkeypatch.setattr(interleaved, "MAX_FACES", 0)
    assert choose(forest, np.float32).name == "traversal (CUDA)"


@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0)])
def test_an_empty_array_keeps_its_dimensions(shape):
    """A kernel is compiled for arrays of as many dimensions as it indexes; the simulator would not tell."""
    assert to_device(np.empty(shape)).ndim == uninitialised(shape, np.float32).ndim == len(shape)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("n_rows", [0, 1, 150])
def test_the_linear_twin_has_the_bits_of_the_cpu(n_outputs, n_rows):
    random = np.random.default_rng(4)
    coef, intercept = random.normal(size=(n_outputs, 7)), random.normal(size=n_outputs)
    X = random.normal(size=(n_rows, 7)).astype(np.float32)
    X[random.random(X.shape) < 0.02] = np.nan
    expected, by_rows, by_columns = (np.full((n_rows, n_outputs), -1.0) for _ in range(3))

    Linear(coef, intercept).score_rows(X, expected)
    twin = GpuLinear(coef, intercept, np.float32)
    twin.score_rows(X, by_rows)
    twin.score_columns([np.ascontiguousarray(column) for column in X.T], by_columns)

    assert bits(by_rows) == bits(expected)
    assert bits(by_columns) == bits(expected)
