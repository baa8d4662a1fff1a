"""Packed networks answer what scikit-learn's do, to the rounding of sums, and the same bits at every door."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import engine
from engine import Scorer
from engine.errors import InvalidModel, UnsupportedModel
from engine.importers import sklearn_networks

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(300, 5))
Y = X @ np.array([1.0, -2.0, 0.5, 0.0, 3.0]) + RANDOM.normal(size=300)
CLASSES = np.array(["ant", "bee", "cow"])[pd.qcut(Y, 3, labels=False)]
ACTIVATIONS = ("relu", "tanh", "logistic", "identity")


def fitted(model: Any, rows: Any, target: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few rounds do not converge
        return model.fit(rows, target)


def scorer_of(model: Any, out: Path) -> Scorer:
    return Scorer.load(engine.pack(model, name="net", out=out))


def scores(scorer: Scorer, rows: Any) -> Any:
    names = scorer.schema.names
    table = pa.table({name: rows[:, place] for place, name in enumerate(names)})
    return np.column_stack([column.to_numpy() for column in scorer.score(table).columns])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layers", [(8,), (17, 9), (6, 5, 4)])
def test_a_regressor_predicts_as_scikit_learn_does(activation: str, layers: Any, tmp_path: Path) -> None:
    model = fitted(
        MLPRegressor(hidden_layer_sizes=layers, activation=activation, max_iter=8, random_state=0), X, Y
    )
    got = scores(scorer_of(model, tmp_path), X)
    np.testing.assert_allclose(got[:, 0], model.predict(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("target", [Y > 0, CLASSES], ids=["two classes", "three classes"])
def test_a_classifier_gives_its_probabilities(target: Any, tmp_path: Path) -> None:
    model = fitted(MLPClassifier((9, 4), "tanh", max_iter=8, random_state=0), X, target)
    scorer = scorer_of(model, tmp_path)
    expected = model.predict_proba(X)
    expected = expected if expected.shape[1] > 2 else expected[:, 1:]
    np.testing.assert_allclose(scores(scorer, X), expected, rtol=1e-12, atol=1e-13)
    assert scorer.schema.output.labels == (("ant", "bee", "cow") if expected.shape[1] == 3 else ())


def test_several_labels_each_have_a_probability(tmp_path: Path) -> None:
    target = np.column_stack([Y > 0, X[:, 0] > 0, X[:, 1] > 1]).astype(int)
    model = fitted(MLPClassifier((7,), max_iter=8, random_state=0), X, target)
    np.testing.assert_allclose(
        scores(scorer_of(model, tmp_path), X), model.predict_proba(X), rtol=1e-12, atol=1e-13
    )


def test_a_network_of_float32_weights_is_computed_in_float64(tmp_path: Path) -> None:
    model = fitted(
        MLPRegressor(hidden_layer_sizes=(11,), max_iter=8, random_state=0), X.astype(np.float32), Y
    )
    assert model.coefs_[0].dtype == np.float32
    got = scores(scorer_of(model, tmp_path), X)
    wide = MLPRegressor(hidden_layer_sizes=(11,)).set_params(**model.get_params())
    wide.__dict__.update(model.__dict__)
    wide.coefs_ = [matrix.astype(np.float64) for matrix in model.coefs_]
    wide.intercepts_ = [bias.astype(np.float64) for bias in model.intercepts_]
    np.testing.assert_allclose(got[:, 0], wide.predict(X), rtol=1e-12, atol=1e-12)


def test_scaled_and_one_hot_columns_fold_into_the_first_layer(tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": X[:, 0] * 50 + 9, "b": X[:, 1], "word": CLASSES.astype(object)})
    prepare = ColumnTransformer(
        [("number", StandardScaler(), ["a", "b"]), ("word", OneHotEncoder(handle_unknown="ignore"), ["word"])]
    )
    model = fitted(
        make_pipeline(prepare, MLPRegressor(hidden_layer_sizes=(13, 5), max_iter=8, random_state=0)), rows, Y
    )
    scorer = scorer_of(model, tmp_path)
    assert scorer.kernel == "dense"
    rows.loc[::7, "word"] = "eel"
    table = pa.Table.from_pandas(rows, preserve_index=False)
    got = scorer.score(table).column(0).to_numpy()
    np.testing.assert_allclose(got, model.predict(rows), rtol=1e-12, atol=1e-12)
    block, bad = scorer.preparer.rows(table.to_pylist())
    assert not bad
    assert scorer.score_rows(block)[:, 0].tobytes() == got.tobytes()
    assert scorer.score_rows(block[7:8])[0, 0] == got[7]


def test_a_missing_feature_makes_a_row_bad_because_scikit_learn_refuses_it(tmp_path: Path) -> None:
    model = fitted(MLPRegressor(hidden_layer_sizes=(3,), max_iter=2), X, Y)
    assert all(feature.required for feature in scorer_of(model, tmp_path).schema.features)


def test_a_network_too_large_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sklearn_networks, "MOST_WEIGHTS", 10)
    model = fitted(MLPRegressor(hidden_layer_sizes=(3,), max_iter=2), X, Y)
    with pytest.raises(UnsupportedModel, match=r"has 18 weights, more than the 10 .* skl2onnx"):
        engine.pack(model, name="net", out=tmp_path)


def test_a_network_before_fit_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="fitted MLPClassifier"):
        engine.pack(MLPClassifier(), name="net", out=tmp_path)
