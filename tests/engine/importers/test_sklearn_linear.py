"""Packed linear models answer what scikit-learn's do."""

import numpy as np
import pandas as pd
import pytest
from sklearn import linear_model as lm
from sklearn.svm import LinearSVC, LinearSVR

from engine.bundle import Link, read_bundle
from engine.errors import InvalidModel, UnsupportedModel
from engine.importers.imported import LINEAR
from engine.packing import pack

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(300, 5))
Y = X @ np.array([1.0, -2.0, 0.5, 0.0, 3.0]) + RANDOM.normal(size=300)
BINARY = Y > 0
CLASSES = np.array(["ant", "bee", "cow"])[pd.qcut(Y, 3, labels=False)]
SIGMOID = Link("sigmoid")


def margins_of(path):
    arrays = read_bundle(path).arrays(LINEAR)
    return X @ arrays["coef"].T + arrays["intercept"]


@pytest.mark.parametrize(
    "model",
    [lm.LinearRegression(), lm.Ridge(), lm.Lasso(0.1), lm.ElasticNet(0.1), lm.SGDRegressor(), LinearSVR(),
     lm.HuberRegressor(), lm.BayesianRidge(), lm.LinearRegression(fit_intercept=False)],
    ids=lambda model: type(model).__name__,
)  # fmt: skip
def test_a_regression_is_its_coefficients(model, tmp_path):
    model.fit(X, Y)
    path = pack(model, name="m", out=tmp_path)
    np.testing.assert_allclose(margins_of(path)[:, 0], model.predict(X), rtol=1e-13)
    assert read_bundle(path).manifest.link == Link()


@pytest.mark.parametrize(
    "model", [lm.PoissonRegressor(), lm.GammaRegressor(), lm.TweedieRegressor(power=1.5)]
)
def test_a_model_with_a_log_link_ends_in_exp(model, tmp_path):
    model.fit(X, np.abs(Y) + 0.1)
    path = pack(model, name="m", out=tmp_path)
    np.testing.assert_allclose(np.exp(margins_of(path)[:, 0]), model.predict(X), rtol=1e-13)
    assert read_bundle(path).manifest.link == Link("exp")


def test_tweedie_of_power_zero_has_no_link(tmp_path):
    model = lm.TweedieRegressor(power=0).fit(X, Y)
    path = pack(model, name="m", out=tmp_path)
    np.testing.assert_allclose(margins_of(path)[:, 0], model.predict(X), rtol=1e-13)


@pytest.mark.parametrize(
    ("model", "link"),
    [(lm.LogisticRegression(), SIGMOID), (lm.LogisticRegression(solver="liblinear"), SIGMOID),
     (lm.SGDClassifier(loss="log_loss"), SIGMOID), (lm.SGDClassifier(loss="hinge"), Link()),
     (LinearSVC(), Link()), (lm.RidgeClassifier(), Link()), (lm.Perceptron(), Link())],
    ids=str,
)  # fmt: skip
def test_a_binary_classifier_has_one_output(model, link, tmp_path):
    model.fit(X, BINARY)
    path = pack(model, name="m", out=tmp_path)
    np.testing.assert_allclose(margins_of(path)[:, 0], model.decision_function(X), rtol=1e-12, atol=1e-14)
    assert read_bundle(path).manifest.link == link
    assert read_bundle(path).manifest.schema.output.labels == ()


def test_several_classes_end_in_softmax_and_keep_their_labels(tmp_path):
    model = lm.LogisticRegression().fit(X, CLASSES)
    path = pack(model, name="m", out=tmp_path)
    np.testing.assert_allclose(margins_of(path), model.decision_function(X), rtol=1e-12, atol=1e-14)
    assert read_bundle(path).manifest.link == Link("softmax")
    assert read_bundle(path).manifest.schema.output.columns == ("score_ant", "score_bee", "score_cow")


def test_several_targets_are_numbered(tmp_path):
    model = lm.LinearRegression().fit(X, np.column_stack([Y, -Y]))
    path = pack(model, name="m", out=tmp_path)
    np.testing.assert_allclose(margins_of(path), model.predict(X), rtol=1e-12)
    assert read_bundle(path).manifest.schema.output.labels == ("0", "1")


def test_sparse_coefficients_are_filled_in(tmp_path):
    model = lm.LogisticRegression().fit(X, BINARY)
    expected = model.decision_function(X)
    path = pack(model.sparsify(), name="m", out=tmp_path)
    np.testing.assert_allclose(margins_of(path)[:, 0], expected, rtol=1e-12, atol=1e-14)


def test_features_keep_their_names_and_may_not_be_missing(tmp_path):
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d", "e"])
    features = read_bundle(pack(lm.Ridge().fit(frame, Y), name="m", out=tmp_path)).manifest.schema.features
    assert [feature.name for feature in features] == ["a", "b", "c", "d", "e"]
    assert all(feature.required for feature in features)


def test_features_without_names_are_numbered(tmp_path):
    assert read_bundle(pack(lm.Ridge().fit(X, Y), name="m", out=tmp_path)).manifest.schema.names[:2] == (
        "x0",
        "x1",
    )


@pytest.mark.parametrize("loss", ["log_loss", "modified_huber"])
def test_probabilities_normalised_in_a_way_of_their_own_are_refused(loss, tmp_path):
    with pytest.raises(UnsupportedModel, match=loss):
        pack(lm.SGDClassifier(loss=loss).fit(X, CLASSES), name="m", out=tmp_path)


def test_an_estimator_before_fit_is_no_model(tmp_path):
    with pytest.raises(InvalidModel, match="fitted Ridge"):
        pack(lm.Ridge(), name="m", out=tmp_path)


def test_a_subclass_may_predict_otherwise_and_is_refused(tmp_path):
    class Doubled(lm.Ridge):
        def predict(self, X):
            return 2 * super().predict(X)

    with pytest.raises(UnsupportedModel, match="Doubled"):
        pack(Doubled().fit(X, Y), name="m", out=tmp_path)
