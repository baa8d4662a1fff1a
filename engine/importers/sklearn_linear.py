"""scikit-learn's linear models: coefficients, intercept and link out of a fitted object.

Margins equal ``decision_function`` up to the order of a dot product, which scikit-learn leaves to BLAS.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.bundle import Link, npz
from engine.errors import UnsupportedModel
from engine.importers.imported import LINEAR, Imported
from engine.importers.sklearn_features import features_of
from engine.schema import Output

IDENTITY = (
    "LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "Lars",
    "LarsCV", "LassoLars", "LassoLarsCV", "LassoLarsIC", "MultiTaskLasso", "MultiTaskElasticNet",
    "BayesianRidge", "ARDRegression", "HuberRegressor", "QuantileRegressor", "TheilSenRegressor",
    "OrthogonalMatchingPursuit", "SGDRegressor", "LinearSVR",
)  # fmt: skip
MARGIN = ("RidgeClassifier", "RidgeClassifierCV", "LinearSVC", "Perceptron")


def _regression(model: Any) -> Imported:
    return _linear(model, Link(), ())


def _exponential(model: Any) -> Imported:
    identity = getattr(model, "link", "log") == "identity" or (
        getattr(model, "link", "log") == "auto" and model.power <= 0
    )
    return _linear(model, Link("identity" if identity else "exp"), ())


def _logistic(model: Any) -> Imported:
    several = len(model.classes_) > 2
    if several and (getattr(model, "multi_class", "auto") == "ovr" or model.solver == "liblinear"):
        raise UnsupportedModel(
            "one-vs-rest logistic regression normalises its sigmoids; train it multinomial"
        )
    return _linear(model, Link("softmax" if several else "sigmoid"), _labels(model))


def _margin(model: Any) -> Imported:
    note = "The score is decision_function: the estimator has no probabilities."
    return _linear(model, Link(), _labels(model), note)


def _sgd(model: Any) -> Imported:
    if model.loss == "log_loss" and len(model.classes_) == 2:
        return _linear(model, Link("sigmoid"), ())
    if model.loss in {"log_loss", "modified_huber"}:
        raise UnsupportedModel(
            f"SGDClassifier(loss='{model.loss}') with {len(model.classes_)} classes normalises its"
            " probabilities in a way of its own; use LogisticRegression, or convert it with skl2onnx"
        )
    return _margin(model)


READERS: dict[str, Callable[[Any], Imported]] = {
    **dict.fromkeys(IDENTITY, _regression),
    **dict.fromkeys(MARGIN, _margin),
    **dict.fromkeys(("PoissonRegressor", "GammaRegressor", "TweedieRegressor"), _exponential),
    **dict.fromkeys(("LogisticRegression", "LogisticRegressionCV"), _logistic),
    "SGDClassifier": _sgd,
}
"""By class name."""


def _linear(model: Any, link: Link, labels: tuple[str, ...], *notes: str) -> Imported:
    dense = model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_
    coef = np.atleast_2d(np.asarray(dense, dtype=np.float64))
    intercept = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64), (len(coef),))
    numbered = tuple(str(number) for number in range(len(coef)))
    arrays = {"coef": np.ascontiguousarray(coef), "intercept": np.ascontiguousarray(intercept)}
    return Imported(
        kind="linear",
        files={LINEAR: npz(arrays)},
        features=features_of(model, required=True),
        block="float64",
        output=Output(labels=() if len(coef) == 1 else labels or numbered),
        link=link,
        library="sklearn",
        objective=type(model).__name__,
        notes=notes,
    )


def _labels(model: Any) -> tuple[str, ...]:
    return tuple(str(label) for label in model.classes_)
