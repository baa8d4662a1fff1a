"""Packed tree ensembles answer scikit-learn's bits."""

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble, tree
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression

from engine.bundle import Link, read_bundle
from engine.errors import UnsupportedModel
from engine.packing import pack
from tests.engine.importers.margins import forest_of, margins_of, same_bits, troubled_rows

RANDOM = np.random.default_rng(0)
N = 400
X = RANDOM.normal(size=(N, 5))
Y = X[:, 0] * 2 + X[:, 1] + RANDOM.normal(size=N)
BINARY = np.array(["no", "yes"])[(Y > 0).astype(int)]
CLASSES = np.array(["ant", "bee", "cow"])[np.digitize(Y, [-1, 1])]
HOLEY = np.where(RANDOM.random(X.shape) < 0.1, np.nan, X)
SOME = {"n_estimators": 7, "max_depth": 5, "random_state": 0}

REGRESSORS = [
    ensemble.RandomForestRegressor(**SOME),
    ensemble.ExtraTreesRegressor(**SOME),
    tree.DecisionTreeRegressor(max_depth=5),
    tree.ExtraTreeRegressor(max_depth=5),
]
CLASSIFIERS = [
    ensemble.RandomForestClassifier(**SOME),
    ensemble.ExtraTreesClassifier(**SOME),
    ensemble.RandomForestClassifier(n_estimators=1),
    tree.DecisionTreeClassifier(max_depth=5),
    tree.ExtraTreeClassifier(max_depth=5),
]


def finite_rows(path, seed=1, *, missing=True):
    """scikit-learn refuses infinities in trees."""
    rows = troubled_rows(forest_of(path), 300, seed=seed, dtype=np.float32)
    rows[np.isinf(rows)] = 1e38
    return rows if missing else np.nan_to_num(rows)


@pytest.mark.parametrize("model", REGRESSORS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("data", [X, HOLEY], ids=["whole", "holey"])
def test_a_regressor_gives_the_bits_of_predict(model, data, tmp_path):
    model.fit(data, Y)
    path = pack(model, name="m", out=tmp_path)
    rows = finite_rows(path)
    assert same_bits(margins_of(path, rows)[:, 0], model.predict(rows))


@pytest.mark.parametrize("model", CLASSIFIERS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("data", [X, HOLEY], ids=["whole", "holey"])
@pytest.mark.parametrize("classes", [BINARY, CLASSES], ids=["two", "three"])
def test_a_classifier_gives_the_bits_of_predict_proba(model, data, classes, tmp_path):
    model.fit(data, classes)
    path = pack(model, name="m", out=tmp_path)
    rows = finite_rows(path)
    expected = model.predict_proba(rows)
    labels = read_bundle(path).manifest.schema.output.labels

    assert same_bits(margins_of(path, rows), expected[:, 1:] if len(model.classes_) == 2 else expected)
    assert labels == (() if len(model.classes_) == 2 else ("ant", "bee", "cow"))


def test_weighted_samples_and_several_targets_keep_their_bits(tmp_path):
    weights = RANDOM.random(N)
    model = ensemble.RandomForestRegressor(**SOME).fit(X, np.column_stack([Y, -Y]), sample_weight=weights)
    path = pack(model, name="m", out=tmp_path)
    rows = finite_rows(path)
    assert same_bits(margins_of(path, rows), model.predict(rows))


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "quantile"])
@pytest.mark.parametrize("init", [None, "zero"])
def test_a_boosted_regressor_gives_the_bits_of_predict(loss, init, tmp_path):
    model = ensemble.GradientBoostingRegressor(loss=loss, init=init, n_estimators=7).fit(X, Y)
    path = pack(model, name="m", out=tmp_path)
    rows = finite_rows(path, missing=False)
    assert same_bits(margins_of(path, rows)[:, 0], model.predict(rows))
    assert all(feature.required for feature in read_bundle(path).manifest.schema.features)


@pytest.mark.parametrize(
    ("loss", "classes", "link"),
    [
        ("log_loss", BINARY, Link("sigmoid")),
        ("exponential", BINARY, Link("sigmoid", 2.0)),
        ("log_loss", CLASSES, Link("softmax")),
    ],
)
def test_a_boosted_classifier_gives_the_bits_of_decision_function(loss, classes, link, tmp_path):
    model = ensemble.GradientBoostingClassifier(loss=loss, n_estimators=7).fit(X, classes)
    path = pack(model, name="m", out=tmp_path)
    rows = finite_rows(path, missing=False)
    margins = margins_of(path, rows)

    assert same_bits(margins.squeeze(), model.decision_function(rows))
    assert read_bundle(path).manifest.link == link
    if link.name == "sigmoid":
        scores = 1 / (1 + np.exp(-link.scale * margins[:, 0]))
        np.testing.assert_allclose(scores, model.predict_proba(rows)[:, 1], rtol=1e-14)


def test_boosting_on_top_of_another_model_is_refused_by_name(tmp_path):
    model = ensemble.GradientBoostingRegressor(init=LinearRegression(), n_estimators=2).fit(X, Y)
    with pytest.raises(UnsupportedModel, match="init=LinearRegression"):
        pack(model, name="m", out=tmp_path)


def test_boosting_that_starts_from_random_numbers_is_refused_by_name(tmp_path):
    start = DummyClassifier(strategy="stratified")
    model = ensemble.GradientBoostingClassifier(init=start, n_estimators=2).fit(X, BINARY)
    with pytest.raises(UnsupportedModel, match="stratified"):
        pack(model, name="m", out=tmp_path)


@pytest.mark.parametrize(
    ("loss", "link"),
    [("squared_error", "identity"), ("absolute_error", "identity"), ("poisson", "exp"), ("gamma", "exp")],
)
def test_a_histogram_regressor_gives_the_bits_of_its_raw_prediction(loss, link, tmp_path):
    model = ensemble.HistGradientBoostingRegressor(loss=loss, max_iter=7).fit(HOLEY, np.abs(Y) + 0.1)
    path = pack(model, name="m", out=tmp_path)
    rows = troubled_rows(forest_of(path), 300, seed=2)

    assert same_bits(margins_of(path, rows), model._raw_predict(rows))
    assert read_bundle(path).manifest.link.name == link


@pytest.mark.parametrize("classes", [BINARY, CLASSES], ids=["two", "three"])
def test_a_histogram_classifier_gives_the_bits_of_decision_function(classes, tmp_path):
    model = ensemble.HistGradientBoostingClassifier(max_iter=7).fit(HOLEY, classes)
    path = pack(model, name="m", out=tmp_path)
    rows = troubled_rows(forest_of(path), 300, seed=3)
    assert same_bits(margins_of(path, rows).squeeze(), model.decision_function(rows))


def a_frame():
    random = np.random.default_rng(3)
    return pd.DataFrame({
        "delay": X[:, 0],
        "carrier": pd.Categorical(random.choice(["WN", "UA", "é=ß", None], N)),
        "gate": X[:, 1],
        "month": pd.Categorical(random.choice([5, 1, 12], N)),
    })  # fmt: skip


def test_categories_of_a_histogram_model_come_along_in_its_own_order(tmp_path):
    frame = a_frame()
    y = Y + 5 * (frame["carrier"] == "UA") + 3 * (frame["month"] == 12)
    model = ensemble.HistGradientBoostingRegressor(max_iter=9, categorical_features="from_dtype").fit(
        frame, y
    )
    path = pack(model, name="m", out=tmp_path)
    features = read_bundle(path).manifest.schema.features
    unseen = frame.head(20).assign(carrier=pd.Categorical(["B6"] * 20))
    asked = pd.concat([frame.astype({"carrier": object}), unseen.astype({"carrier": object})])
    coded = asked.assign(
        carrier=[
            features[1].categories.index(c) if c in features[1].categories else np.nan
            for c in asked["carrier"]
        ],
        month=[features[3].categories.index(m) for m in asked["month"]],
    )
    asked["carrier"] = asked["carrier"].astype("category")

    assert [feature.type for feature in features] == ["float64", "category", "float64", "category"]
    assert features[1].categories == ("UA", "WN", "é=ß")
    assert features[3].categories == (1, 5, 12)
    assert features[1].unseen == "missing"
    assert same_bits(margins_of(path, coded.to_numpy(np.float64))[:, 0], model.predict(asked))


def test_boolean_categories_of_a_histogram_model_become_a_bool_feature(tmp_path):
    frame = a_frame()[["delay"]].assign(night=np.arange(N) % 3 == 0)
    model = ensemble.HistGradientBoostingRegressor(max_iter=9, categorical_features=["night"])
    path = pack(model.fit(frame, Y + 5 * frame["night"]), name="m", out=tmp_path)
    assert [feature.type for feature in read_bundle(path).manifest.schema.features] == ["float64", "bool"]
    assert same_bits(margins_of(path, frame.to_numpy(np.float64))[:, 0], model.predict(frame))
