"""scikit-learn's histogram gradient boosting, straight from the fitted arrays.

Float64 in, float64 sums on top of the baseline. Categories go through the estimator's own ordinal
encoder, which also puts them before the numeric features; an unknown one counts as missing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.bundle import Link, npz
from engine.errors import UnsupportedModel
from engine.importers.imported import FOREST, Imported
from engine.importers.sklearn_features import features_of
from engine.importers.trees import Rules, Tree, grow
from engine.schema import Feature, Output


def _histogram(model: Any) -> Imported:
    features = _with_categories(model, features_of(model, required=False))
    places = np.array(_input_order(model), dtype=np.int32)
    trees = [
        _tree(predictor, places, output)
        for stage in model._predictors
        for output, predictor in enumerate(stage)
    ]
    base = np.asarray(model._baseline_prediction, dtype=np.float64).ravel()
    forest = grow(trees, Rules(), n_features=len(features), base=base)
    labels = tuple(str(label) for label in getattr(model, "classes_", ()))
    return Imported(
        kind="forest",
        files={FOREST: npz(forest.arrays())},
        features=features,
        block="float64",
        output=Output(labels=() if forest.n_outputs == 1 else labels),
        link=_link(model),
        library="sklearn",
        objective=type(model).__name__,
    )


READERS: dict[str, Callable[[Any], Imported]] = dict.fromkeys(
    ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"), _histogram
)
"""By class name."""


def _link(model: Any) -> Link:
    if hasattr(model, "classes_"):
        return Link("softmax" if len(model.classes_) > 2 else "sigmoid")
    return Link("exp" if model.loss in {"poisson", "gamma"} else "identity")


def _tree(predictor: Any, places: NDArray[np.int32], output: int) -> Tree:
    nodes = predictor.nodes
    inner = nodes["is_leaf"] == 0
    categorical = np.flatnonzero(inner & (nodes["is_categorical"] != 0))
    bits = predictor.raw_left_cat_bitsets
    return Tree(
        feature=np.where(inner, places[np.where(inner, nodes["feature_idx"], 0)], -1),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        default_left=nodes["missing_go_to_left"] != 0,
        leaf_value=nodes["value"].astype(np.float64),
        sets={int(node): _codes(bits[nodes["bitset_idx"][node]]) for node in categorical},
        output=output,
    )


def _codes(bits: NDArray[np.uint32]) -> NDArray[np.int64]:
    return np.flatnonzero((bits[:, None] >> np.arange(32, dtype=np.uint32)) & 1).astype(np.int64)


def _input_order(model: Any) -> Sequence[int]:
    """The input column of each column that the trees see."""
    if model.is_categorical_ is None:
        return range(model.n_features_in_)
    return [*np.flatnonzero(model.is_categorical_), *np.flatnonzero(~model.is_categorical_)]


def _with_categories(model: Any, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    if model.is_categorical_ is None:
        return features
    encoder = model._preprocessor.named_transformers_["encoder"]
    known = dict(zip(np.flatnonzero(model.is_categorical_), encoder.categories_, strict=True))
    return tuple(
        _categorical(feature, known[column].tolist()) if column in known else feature
        for column, feature in enumerate(features)
    )


def _categorical(feature: Feature, values: Sequence[Any]) -> Feature:
    seen = [value for value in values if value is not None and value == value]
    if all(isinstance(value, bool) for value in seen) and seen == [False, True]:
        return msgspec.structs.replace(feature, type="bool")
    if all(isinstance(value, str) for value in seen):
        return msgspec.structs.replace(feature, type="category", categories=tuple(seen))
    if all(isinstance(value, int | float) and float(value).is_integer() for value in seen):
        whole = tuple(int(value) for value in seen)
        return msgspec.structs.replace(feature, type="category", categories=whole)
    raise UnsupportedModel(
        f"feature '{feature.name}' has categories that are neither all strings nor all integers, such as"
        f" {seen[0]!r}; train on strings"
    )
