"""scikit-learn's tree ensembles, straight from the fitted arrays.

Not through treelite: last bits of what it imports differ (7 of 100 rows of a random forest classifier, 72
of gradient boosting). Inputs are float32, thresholds float64, sums float64 in tree order, averages divide
last.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.bundle import Link, npz
from engine.errors import UnsupportedModel
from engine.importers.imported import FOREST, Imported
from engine.importers.sklearn_features import features_of
from engine.importers.trees import Rules, Tree, grow
from engine.schema import Output
from kernels.forests.forest import Forest


def _averaged(model: Any) -> Imported:
    """Random forests and extra trees, and a single decision tree as a forest of one."""
    trees = [tree.tree_ for tree in getattr(model, "estimators_", [model])]
    classes = _classes(model)
    grown = [_tree(tree, _leaf_vectors(tree, bool(classes))) for tree in trees]
    n_outputs = grown[0].leaf_value.shape[1]
    forest = grow(
        grown,
        Rules(average=len(grown) > 1),
        n_features=model.n_features_in_,
        base=np.zeros(n_outputs),
    )
    return _imported(model, forest, Link(), classes)


def _boosted(model: Any) -> Imported:
    """Gradient boosting: each tree's values times the learning rate, on top of a constant."""
    if type(model.init_).__name__ not in {"str", "DummyClassifier", "DummyRegressor"}:
        raise UnsupportedModel(
            f"{type(model).__name__} starts from a model of its own (init={type(model.init_).__name__});"
            " train with init=None or 'zero'"
        )
    if getattr(model.init_, "strategy", None) == "stratified":
        raise UnsupportedModel(
            f"{type(model).__name__} starts from random numbers (init with strategy='stratified');"
            " train with init=None or 'zero'"
        )
    base = model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))[0]
    trees = [
        _tree(estimator.tree_, model.learning_rate * estimator.tree_.value[:, 0, 0], output)
        for stage in model.estimators_
        for output, estimator in enumerate(stage)
    ]
    forest = grow(trees, Rules(), n_features=model.n_features_in_, base=base)
    link = _classifier_link(model) if _classes(model) else Link()
    return _imported(model, forest, link, _classes(model))


def _classifier_link(model: Any) -> Link:
    if model.loss == "exponential":
        return Link("sigmoid", 2.0)
    return Link("softmax" if len(model.classes_) > 2 else "sigmoid")


def _tree(tree: Any, leaf_value: NDArray[np.float64], output: int = 0) -> Tree:
    return Tree(
        feature=np.where(tree.children_left < 0, -1, tree.feature),
        threshold=tree.threshold,
        left=tree.children_left,
        right=tree.children_right,
        default_left=np.asarray(tree.missing_go_to_left, dtype=bool),
        leaf_value=leaf_value,
        output=output,
    )


def _leaf_vectors(tree: Any, classifier: bool) -> NDArray[np.float64]:
    """float64[n, outputs]: class shares, the second of two classes alone, or the values of all targets."""
    if not classifier:
        return np.ascontiguousarray(tree.value[:, :, 0])
    shares = tree.value[:, 0, :]
    return np.ascontiguousarray(shares[:, 1:] if shares.shape[1] == 2 else shares)


def _classes(model: Any) -> tuple[str, ...]:
    classes = getattr(model, "classes_", ())
    if isinstance(classes, list):
        raise UnsupportedModel(f"{type(model).__name__} predicts several targets; train one model for each")
    return tuple(str(label) for label in classes)


def _imported(model: Any, forest: Forest, link: Link, classes: Sequence[str]) -> Imported:
    numbered = tuple(str(number) for number in range(forest.n_outputs))
    labels = tuple(classes) if len(classes) == forest.n_outputs else numbered
    name = type(model).__name__
    return Imported(
        kind="forest",
        files={FOREST: npz(forest.arrays())},
        features=features_of(model, required=name.startswith("GradientBoosting"), kind="float32"),
        block="float32",
        output=Output(labels=() if forest.n_outputs == 1 else labels),
        link=link,
        library="sklearn",
        objective=name,
    )


READERS: dict[str, Callable[[Any], Imported]] = {
    **{f"{family}{kind}": _averaged
       for family in ("RandomForest", "ExtraTrees", "DecisionTree", "ExtraTree")
       for kind in ("Classifier", "Regressor")},
    **dict.fromkeys(("GradientBoostingClassifier", "GradientBoostingRegressor"), _boosted),
}  # fmt: skip
"""By class name."""
