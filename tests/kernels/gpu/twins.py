"""What the CUDA twins must do; runs in Numba's simulator (see test_gpu.py) or on a GPU:

python -m pytest tests/kernels/gpu/twins.py
"""

import numpy as np
import pytest

from kernels.forests.traversal import Traversal
from kernels.gpu.device import gpu_is_available
from kernels.gpu.linear import GpuLinear
from kernels.gpu.traversal import GpuTraversal
from kernels.linear.model import Linear
from tests.kernels.drawn_forests import Shape, random_forest, random_rows
from tests.reference import bits

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
