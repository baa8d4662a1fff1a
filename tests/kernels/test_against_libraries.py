"""The chosen kernels give the bits of the libraries that trained the models, also on rows never seen."""

import functools
from contextlib import suppress

import lightgbm
import numpy as np
import pytest
import sklearn.ensemble
import xgboost

from engine.importers.features import Options
from engine.importers.formats import import_model
from kernels.forests.binning import Unsuited
from kernels.forests.blended_trees import BlendedTrees
from kernels.forests.choice import choose
from kernels.forests.interleaved import Interleaved
from kernels.forests.interval_masks import IntervalMasks
from kernels.forests.traversal import Traversal
from tests.kernels.drawn_forests import random_rows, scored, scored_by_columns


def data(n_rows=1500, n_features=12, n_classes=2, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, n_features)).astype(np.float32)
    X[:, 3] = random.integers(0, 40, size=n_rows)
    target = X[:, 0] + np.sin(3 * X[:, 1]) + (X[:, 3] % 7) / 3 + random.normal(size=n_rows) / 2
    X[random.random(X.shape) < 0.05] = np.nan
    y = np.digitize(target, np.quantile(target, np.linspace(0, 1, n_classes + 1)[1:-1]))
    return X, y


def assert_same(model, predict, dtype, infinities=True):
    _, imported = import_model(model, Options())
    forest = imported.forest()
    X = np.concatenate(
        [data()[0][:200].astype(dtype), random_rows(forest, 400, dtype, np.random.default_rng(1))]
    )
    if not infinities:
        X[np.isinf(X)] = 1e30
    expected = np.asarray(predict(X)).reshape(len(X), -1)
    kernels = [choose(forest, dtype), Interleaved(forest, dtype), Traversal(forest)]
    if np.diff(forest.tree_start).max() < 2 * 64:
        kernels.append(IntervalMasks(forest, dtype))
    with suppress(Unsuited):
        kernels.append(BlendedTrees(forest, dtype))
    for kernel in kernels:
        assert np.array_equal(scored(kernel, forest, X), expected), kernel.name
        assert np.array_equal(scored_by_columns(kernel, forest, X), expected), kernel.name


@functools.cache
def lightgbm_model(num_leaves, n_classes):
    X, y = data(n_classes=n_classes)
    parameters = {
        "objective": "binary" if n_classes == 2 else "multiclass",
        "num_class": 1 if n_classes == 2 else n_classes,
        "num_leaves": num_leaves, "min_data_in_leaf": 3, "num_threads": 1, "verbose": -1,
    }  # fmt: skip
    return lightgbm.train(parameters, lightgbm.Dataset(X, y, categorical_feature=[3]), 40)


@pytest.mark.parametrize("num_leaves", [7, 31, 63, 255])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lightgbm(num_leaves, n_classes, dtype):
    model = lightgbm_model(num_leaves, n_classes)

    assert_same(model, lambda rows: model.predict(rows, raw_score=True, num_threads=1), dtype)


@pytest.mark.parametrize("max_depth", [3, 6, 9])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_xgboost(max_depth, n_classes):
    X, y = data(n_classes=n_classes)
    parameters = {
        "objective": "binary:logistic" if n_classes == 2 else "multi:softmax",
        "max_depth": max_depth, "nthread": 1, "eta": 0.3,
    } | ({"num_class": n_classes} if n_classes > 2 else {})  # fmt: skip
    model = xgboost.train(parameters, xgboost.DMatrix(X, y), 40)

    def predict(rows):
        return model.predict(xgboost.DMatrix(rows), output_margin=True)

    assert_same(model, predict, np.float32, infinities=False)


@pytest.mark.parametrize("max_leaf_nodes", [32, None])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_scikit_learn_forest(max_leaf_nodes, n_classes):
    X, y = data(n_classes=n_classes)
    model = sklearn.ensemble.RandomForestClassifier(30, max_leaf_nodes=max_leaf_nodes, random_state=0)
    model.fit(X, y)

    def predict(rows):
        return model.predict_proba(rows)[:, n_classes == 2 :]

    assert_same(model, predict, np.float32, infinities=False)
