"""CatBoost's JSON: float features only, symmetric trees unfolded into binary ones.

Sums are float64 in tree order, then scale and bias. The text carries every digit of the ``.cbm``; CatBoost
itself reads its own JSON back with errors of one ulp in some leaves, so the ``.cbm`` is the truth here.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.bundle import Link, npz
from engine.errors import InvalidModel, UnsupportedModel
from engine.importers.features import Options
from engine.importers.imported import FOREST, Imported
from engine.importers.trees import Rules, Tree, grow
from engine.schema import Feature, Output

LINKS = {
    "Logloss": Link("sigmoid"),
    "CrossEntropy": Link("sigmoid"),
    "MultiClass": Link("softmax"),
    "MultiClassOneVsAll": Link("sigmoid"),
    "MultiLogloss": Link("sigmoid"),
    "MultiCrossEntropy": Link("sigmoid"),
    "Poisson": Link("exp"),
    "Tweedie": Link("exp"),
    **dict.fromkeys(
        (
            "RMSE", "MAE", "Quantile", "MultiQuantile", "MAPE", "Lq", "Huber", "Expectile", "LogCosh",
            "MultiRMSE", "QueryRMSE", "PairLogit", "PairLogitPairwise", "YetiRank", "YetiRankPairwise",
            "StochasticRank", "LambdaMart",
        ),
        Link(),
    ),
}  # fmt: skip
MISSING_IS_ABOVE = "AsTrue"
"""``nan_mode=Max``: a missing value passes every border. Otherwise it passes none."""
OTHER_FEATURES = ("categorical_features", "text_features", "embedding_features", "ctrs")


def import_json(source: bytes, options: Options) -> Imported:
    """Read a model saved with ``format='json'``; raises ``InvalidModel``, ``UnsupportedModel``."""
    del options
    return _import(json.loads(source))


def import_object(model: Any, options: Options) -> tuple[bytes, Imported]:
    """Read a fitted ``CatBoost``, ``CatBoostClassifier``, ``CatBoostRegressor`` or ``CatBoostRanker``."""
    if not hasattr(model, "save_model") or not model.is_fitted():
        raise InvalidModel(f"expected a fitted CatBoost model, got {type(model).__name__}")
    if model.get_cat_feature_indices():
        raise UnsupportedModel("categorical features of CatBoost are hashed and counted, which is not read")
    if model.get_text_feature_indices() or model.get_embedding_feature_indices():
        raise UnsupportedModel("text and embedding features of CatBoost are not read; train on numbers alone")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.json"
        model.save_model(str(path), format="json")
        source = path.read_bytes()
    return source, import_json(source, options)


def _import(document: Mapping[str, Any]) -> Imported:
    information = document["features_info"]
    for kind in OTHER_FEATURES:
        if information.get(kind):
            raise UnsupportedModel(
                f"the CatBoost model uses {kind.replace('_', ' ')}, which are not read;"
                " encode them as numbers before training"
            )
    objective = _loss(document["model_info"])
    if objective not in LINKS:
        raise UnsupportedModel(f"loss '{objective}' has no exact link here; known are {', '.join(LINKS)}")
    above, features = _features(information["float_features"])
    scale, bias = document["scale_and_bias"]
    trees = [*(_unfolded(tree, above) for tree in document.get("oblivious_trees", ()))]
    trees += [_walked(tree, above) for tree in document.get("trees", ())]
    width = trees[0].leaf_value.shape[1] if trees else 1
    forest = grow(
        trees,
        Rules(),
        n_features=len(features),
        base=np.zeros(width),
        scale=scale,
        bias=np.broadcast_to(np.asarray(bias, np.float64), width),
    )
    return Imported(
        kind="forest",
        files={FOREST: npz(forest.arrays())},
        features=features,
        block="float32",
        output=Output(labels=_labels(document, width)),
        link=LINKS[objective],
        library="catboost",
        objective=objective,
    )


def _loss(information: Mapping[str, Any]) -> str:
    """The loss's name; a sum of models bears it beside the parameters of each, if it is one."""
    if "model0:params" in information and "loss_function" not in information:
        raise UnsupportedModel("a sum of CatBoost models of several losses has no link; sum those of one")
    loss = information.get("loss_function") or _document(information["params"])["loss_function"]
    return str(_document(loss)["type"])


def _document(value: Any) -> Mapping[str, Any]:
    """What CatBoost writes as an object, or as its JSON in a text."""
    return json.loads(value) if isinstance(value, str) else value


def _features(given: Sequence[Mapping[str, Any]]) -> tuple[dict[int, tuple[int, bool]], tuple[Feature, ...]]:
    """By index among float features, the column and whether NaN passes borders; and all features."""
    names = {f["flat_feature_index"]: f.get("feature_id") or str(f["flat_feature_index"]) for f in given}
    columns = {flat: column for column, flat in enumerate(sorted(names))}
    above = {
        f["feature_index"]: (columns[f["flat_feature_index"]], f["nan_value_treatment"] == MISSING_IS_ABOVE)
        for f in given
    }
    return above, tuple(Feature(names[flat], "float32") for flat in sorted(names))


def _labels(document: Mapping[str, Any], n_outputs: int) -> tuple[str, ...]:
    if n_outputs == 1:
        return ()
    given = _document(document["model_info"].get("class_params", {}))
    names = tuple(str(name) for name in given.get("class_names", ()))
    return names if len(names) == n_outputs else tuple(str(number) for number in range(n_outputs))


def _unfolded(tree: Mapping[str, Any], above: Mapping[int, tuple[int, bool]]) -> Tree:
    """A symmetric tree as a full binary one: bit ``i`` of a leaf's number is the outcome of split ``i``."""
    splits = [_split(split, above) for split in tree.get("splits") or ()]
    depth = len(splits)
    values = np.array(tree["leaf_values"], dtype=np.float64).reshape(1 << depth, -1)
    n_inner = (1 << depth) - 1
    level = np.array([depth - (node + 1).bit_length() for node in range(n_inner)], dtype=np.int64)
    node = np.arange(n_inner + len(values))
    leaf_value = np.zeros((len(node), values.shape[1]))
    leaf_value[n_inner:] = values
    per_level = np.array([*splits, (-1, 0.0, False)], dtype=object)
    of_node = per_level[np.concatenate([level, np.full(len(values), depth)])]
    return Tree(
        feature=of_node[:, 0].astype(np.int32),
        threshold=of_node[:, 1].astype(np.float64),
        left=2 * node + 1,
        right=2 * node + 2,
        default_left=~of_node[:, 2].astype(bool),
        leaf_value=leaf_value,
    )


def _walked(root: Mapping[str, Any], above: Mapping[int, tuple[int, bool]]) -> Tree:
    """A tree of nested nodes (``grow_policy`` Lossguide or Depthwise), in breadth-first order."""
    nodes, left, right = [root], [], []
    for node in nodes:
        inner = "split" in node
        left.append(len(nodes) if inner else 0)
        right.append(len(nodes) + 1 if inner else 0)
        nodes.extend([node["left"], node["right"]] if inner else [])
    splits = [_split(node["split"], above) if "split" in node else (-1, 0.0, False) for node in nodes]
    width = max(len(np.atleast_1d(node.get("value", 0.0))) for node in nodes)
    return Tree(
        feature=np.array([split[0] for split in splits], np.int32),
        threshold=np.array([split[1] for split in splits], np.float64),
        left=np.array(left),
        right=np.array(right),
        default_left=np.array([not split[2] for split in splits]),
        leaf_value=_rows([node.get("value", 0.0) for node in nodes], width),
    )


def _rows(values: Sequence[Any], width: int) -> NDArray[np.float64]:
    rows = np.zeros((len(values), width))
    for row, value in zip(rows, values, strict=True):
        row[:] = value
    return rows


def _split(split: Mapping[str, Any], above: Mapping[int, tuple[int, bool]]) -> tuple[int, float, bool]:
    """Column, border, and whether NaN passes it."""
    if split["split_type"] != "FloatFeature":
        raise UnsupportedModel(f"splits of type '{split['split_type']}' are not read; train on floats alone")
    column, passes = above[split["float_feature_index"]]
    return column, float(split["border"]), passes
