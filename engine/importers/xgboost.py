"""XGBoost's JSON and UBJ, one document in two encodings.

Margins are float32 sums, tree by tree, that start from the base score. The format:
https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html.
"""

import ctypes
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import ubjson
from numpy.typing import NDArray

from engine.bundle import Link, npz
from engine.errors import InvalidModel, UnsupportedModel
from engine.importers.features import Options
from engine.importers.imported import FOREST, Imported
from engine.importers.trees import Rules, grow
from engine.importers.xgboost_features import features_of
from engine.importers.xgboost_trees import trees_of
from engine.schema import Output

LINKS = {
    "binary:logistic": Link("sigmoid"),
    "reg:logistic": Link("sigmoid"),
    "binary:logitraw": Link(),
    "multi:softprob": Link("softmax"),
    "multi:softmax": Link("softmax"),
    "count:poisson": Link("exp"),
    "reg:gamma": Link("exp"),
    "reg:tweedie": Link("exp"),
    "survival:cox": Link("exp"),
    "survival:aft": Link("exp"),
    **dict.fromkeys(
        (
            "reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
            "reg:quantileerror", "reg:expectileerror", "rank:ndcg", "rank:map", "rank:pairwise",
        ),
        Link(),
    ),
}  # fmt: skip
LOGIT_BASE = frozenset({"binary:logistic", "reg:logistic"})
BASE_MARGIN = np.float32(1e-6)
"""XGBoost 3.2 keeps a base probability this far from 0 and 1."""

COUNTED = re.compile(rb"\[\$[iUIlLdD]#L(.{8})", re.DOTALL)
"""The head of an array in UBJ; ubjson makes room for as many values as it says, before it reads one."""


def import_json(source: bytes, options: Options) -> Imported:
    """Read a ``.json`` model of XGBoost 1.6 or later; raises ``InvalidModel``, ``UnsupportedModel``."""
    return _import(json.loads(source), options)


def import_ubj(source: bytes, options: Options) -> Imported:
    """Read a ``.ubj`` model of XGBoost 1.6 or later; raises ``InvalidModel``, ``UnsupportedModel``."""
    for array in COUNTED.finditer(source):
        if int.from_bytes(array[1], "big") > len(source) - array.end():
            raise InvalidModel("the XGBoost model is cut short or damaged: an array is longer than the file")
    try:
        document = ubjson.loadb(source)
    except MemoryError as error:
        raise InvalidModel("the XGBoost model is damaged: a text is longer than the file") from error
    return _import(document, options)


def import_object(model: Any, options: Options) -> tuple[bytes, Imported]:
    """Read a ``Booster``, or a fitted estimator with the trees it predicts with."""
    booster = model
    labels: tuple[str, ...] = ()
    if hasattr(model, "get_booster"):
        _check_missing(model.missing)
        booster = model.get_booster()
        labels = tuple(str(label) for label in getattr(model, "classes_", ()))
        stop = getattr(model, "best_iteration", None) if booster.attr("best_iteration") else None
        if stop is not None:
            booster = booster[: int(stop) + 1]
            booster.set_attr(best_iteration=None)
    source = bytes(booster.save_raw(raw_format="ubj"))
    return source, _import(ubjson.loadb(source), options, labels)


def _check_missing(missing: float | None) -> None:
    """Refuse an estimator that takes a number for a missing value, which its booster does not know."""
    if missing is not None and not np.isnan(missing):
        raise UnsupportedModel(
            f"the estimator takes {missing} for a missing value (missing={missing}), which is not represented"
            " exactly; put NaN in its place, in training and in what is scored, and leave missing=nan"
        )


def _import(document: Any, options: Options, labels: tuple[str, ...] = ()) -> Imported:
    learner = document["learner"]
    objective = learner["objective"]["name"]
    parameters = learner["learner_model_param"]
    booster = _booster(learner["gradient_booster"])
    if objective not in LINKS:
        raise UnsupportedModel(
            f"objective '{objective}' has no exact link here; known are {', '.join(LINKS)}"
        )
    n_outputs = max(1, int(parameters["num_class"])) * max(1, int(parameters.get("num_target", "1")))
    trees = trees_of(booster, learner["gradient_booster"].get("weight_drop"))
    features = features_of(learner, booster, int(parameters["num_feature"]), options)
    forest = grow(
        trees,
        Rules(less=True, set_right=True, single=True),
        n_features=len(features),
        base=np.broadcast_to(_base(parameters["base_score"], objective), n_outputs),
    )
    numbered = tuple(str(number) for number in range(n_outputs))
    fitting = labels if len(labels) == n_outputs else numbered
    return Imported(
        kind="forest",
        files={FOREST: npz(forest.arrays())},
        features=features,
        block="float32",
        output=Output(type="float32", labels=() if n_outputs == 1 else fitting),
        link=LINKS[objective],
        library="xgboost",
        objective=objective,
        notes=tuple(_notes(learner, booster)),
    )


def _booster(gradient_booster: Mapping[str, Any]) -> Mapping[str, Any]:
    name = gradient_booster["name"]
    if name == "gbtree":
        return gradient_booster["model"]
    if name == "dart":
        return gradient_booster["gbtree"]["model"]
    raise UnsupportedModel(f"booster '{name}' is not represented exactly; train with booster='gbtree'")


def _base(text: str, objective: str) -> NDArray[np.float32]:
    """What sums start from: the base score as a margin, one for all outputs or one for each."""
    scores = np.array(text.strip("[]").split(","), dtype=np.float32)
    if objective in LOGIT_BASE:
        inside = np.clip(scores, BASE_MARGIN, np.float32(1) - BASE_MARGIN)
        return np.array([-_log(np.float32(1) / score - np.float32(1)) for score in inside], np.float32)
    if LINKS[objective].name == "exp":
        return np.array([_log(score) for score in scores], np.float32)
    return scores


def _log(value: np.float32) -> np.float32:
    """The C library's ``logf``, which XGBoost calls; NumPy's and a rounded double's differ by an ulp."""
    logf = ctypes.CDLL(None).logf
    logf.restype, logf.argtypes = ctypes.c_float, [ctypes.c_float]
    return np.float32(logf(float(value)))


def _notes(learner: Mapping[str, Any], booster: Mapping[str, Any]) -> Iterator[str]:
    rounds = len(booster.get("iteration_indptr", [])) - 1
    best = learner.get("attributes", {}).get("best_iteration")
    if best is not None:
        yield (
            f"All {rounds} rounds are used, as Booster.predict does. Training stopped early: the estimator"
            f" would use the first {int(best) + 1}; to have those, pack booster[: {int(best) + 1}]."
        )
    if learner["gradient_booster"]["name"] == "dart":
        yield "Sums are those of Booster.predict; inplace_predict of dart rounds in another order."
    if learner["objective"]["name"] == "multi:softmax":
        yield "The scores are the probabilities of the classes, as with multi:softprob."
