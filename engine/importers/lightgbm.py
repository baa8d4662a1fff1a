"""LightGBM's text format: trees through treelite, everything treelite drops from the text itself.

Treelite takes ``zero_as_missing`` for missing values of another kind, reads past the end of inconsistent
trees, and drops the category map; so the text is looked at first. The format:
https://github.com/microsoft/LightGBM/blob/master/src/boosting/gbdt_model_text.cpp.
"""

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import treelite
from numpy.typing import NDArray

from engine.bundle import Link, npz
from engine.errors import InvalidModel, UnsupportedModel
from engine.importers.features import Options
from engine.importers.imported import FOREST, Imported
from engine.importers.pandas_categories import Column, are_booleans, are_integers, are_strings, owners
from engine.importers.treelite import trees_of
from engine.importers.trees import Rules, grow
from engine.schema import Feature, Output

IDENTITY = frozenset({
    "regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom",
})  # fmt: skip
EXPONENTIAL = frozenset({"poisson", "gamma", "tweedie"})
MISSING_ZERO = 1
"""Value of bits 2 and 3 of ``decision_type`` with ``zero_as_missing``."""
UNKNOWN_KIND = 12
"""Decision types from here on name a third way with missing values, which there is not."""
CATEGORICAL_BIT = 1


def import_text(source: bytes, options: Options, labels: tuple[str, ...] = ()) -> Imported:
    """Read a model file of LightGBM 3 or 4.

    Args:
        source: The file's bytes.
        options: The features file; its categories serve features that have no map of their own.
        labels: Class labels, where a Python object knew them.

    Raises:
        InvalidModel: Cut short or inconsistent.
        UnsupportedModel: ``zero_as_missing``, linear trees, an objective without an exact link, or category
            maps that may belong to one feature or another.
    """
    header, trees, footer = _sections(source)
    for number, tree in enumerate(trees):
        _check(tree, number)
    names = header["feature_names"].split(" ")
    n_outputs = int(header.get("num_tree_per_iteration", "1"))
    objective = header.get("objective", "custom")
    outputs = [number % n_outputs for number in range(len(trees))]
    forest = grow(
        trees_of(_load(header, source), outputs),
        Rules(average="average_output" in header, flush_tiny=True),
        n_features=len(names),
        base=np.zeros(n_outputs),
    )
    numbered = tuple(str(number) for number in range(n_outputs))
    return Imported(
        kind="forest",
        files={FOREST: npz(forest.arrays())},
        features=_features(names, header, trees, footer, options),
        block="float64",
        output=Output(labels=() if n_outputs == 1 else labels or numbered),
        link=_link(objective),
        library="lightgbm",
        objective=objective,
    )


def import_object(model: Any, options: Options) -> tuple[bytes, Imported]:
    """Read a ``Booster`` or a fitted ``LGBMModel``; returns its text as well.

    The trees up to ``best_iteration`` are taken, as ``predict`` does by default.
    """
    booster = getattr(model, "booster_", model)
    if not hasattr(booster, "model_to_string"):
        raise InvalidModel(f"expected a LightGBM Booster or fitted estimator, got {type(model).__name__}")
    if hasattr(model, "get_params") and model.get_params().get("pred_early_stop"):
        raise UnsupportedModel(
            "the estimator leaves out trees once a margin is large (pred_early_stop=true), which is not"
            " represented exactly; leave it off"
        )
    source = booster.model_to_string().encode()
    labels = tuple(str(label) for label in getattr(model, "classes_", ()))
    return source, import_text(source, options, labels)


def _sections(source: bytes) -> tuple[dict[str, str], list[dict[str, str]], str]:
    try:
        text = source.decode()
    except UnicodeDecodeError as error:
        raise InvalidModel(f"the LightGBM model file is damaged: {error}") from error
    body, end, footer = text.replace("\r\n", "\n").partition("\nend of trees\n")
    if not end:
        raise InvalidModel("the LightGBM model file is cut short: 'end of trees' is missing")
    head, *blocks = body.split("\nTree=")
    header = dict(_pairs(head))
    required = {"version", "max_feature_idx", "feature_names"}
    if lacking := sorted(required - header.keys()):
        raise InvalidModel(f"the LightGBM model file lacks '{lacking[0]}'")
    if int(header["max_feature_idx"]) + 1 != len(header["feature_names"].split(" ")):
        raise InvalidModel("the LightGBM model file names another number of features than it has")
    if len(header.get("tree_sizes", "").split()) != len(blocks):
        raise InvalidModel(f"the LightGBM model file holds {len(blocks)} trees, not what 'tree_sizes' lists")
    return header, [dict(_pairs(block)) for block in blocks], footer


def _pairs(block: str) -> Iterator[tuple[str, str]]:
    for line in block.split("\n"):
        key, _, value = line.partition("=")
        yield key, value


def _check(tree: Mapping[str, str], number: int) -> None:
    if tree.get("is_linear", "0") != "0":
        raise UnsupportedModel(
            f"tree {number} is a linear tree, which the forest kernels do not score exactly;"
            " train with linear_tree=false"
        )
    n_leaves = len(_numbers(tree, "leaf_value", float))
    if n_leaves != int(tree.get("num_leaves", "-1")) or n_leaves == 0:
        raise InvalidModel(
            f"tree {number} of the LightGBM model file has another number of leaves than it says"
        )
    if n_leaves == 1:
        return
    keys = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
    arrays = {key: _numbers(tree, key, float if key == "threshold" else int) for key in keys}
    if any(len(array) != n_leaves - 1 for array in arrays.values()):
        raise InvalidModel(f"tree {number} of the LightGBM model file has not one split less than leaves")
    children = np.concatenate([arrays["left_child"], arrays["right_child"]])
    if sorted(children) != [*range(-n_leaves, 0), *range(1, n_leaves - 1)]:
        raise InvalidModel(f"tree {number} of the LightGBM model file is no tree: check its children")
    kind = arrays["decision_type"]
    if (arrays["split_feature"] < 0).any() or ((kind < 0) | (kind >= UNKNOWN_KIND)).any():
        raise InvalidModel(
            f"tree {number} of the LightGBM model file has a split that LightGBM does not write"
        )
    if ((kind >> 2) & 3 == MISSING_ZERO).any():
        raise UnsupportedModel(
            f"tree {number} treats zeros as missing (zero_as_missing=true), which is not represented exactly;"
            " train with zero_as_missing=false and NaN for missing values"
        )
    _check_sets(tree, number, arrays["threshold"][(kind & CATEGORICAL_BIT) > 0])


def _check_sets(tree: Mapping[str, str], number: int, indices: NDArray[np.generic]) -> None:
    if not len(indices):
        return
    boundaries, threshold = _numbers(tree, "cat_boundaries", int), _numbers(tree, "cat_threshold", int)
    n_sets = int(tree.get("num_cat", "0"))
    whole = len(boundaries) == n_sets + 1 and boundaries[0] == 0 and (np.diff(boundaries) >= 0).all()
    if not whole or boundaries[-1] != len(threshold) or not np.isin(indices, np.arange(n_sets)).all():
        raise InvalidModel(f"tree {number} of the LightGBM model file has category sets past their end")


def _numbers(tree: Mapping[str, str], key: str, kind: type) -> NDArray[Any]:
    try:
        return np.array([kind(word) for word in tree.get(key, "").split()])
    except ValueError as error:
        raise InvalidModel(f"'{key}' of a tree in the LightGBM model file: {error}") from error


def _load(header: Mapping[str, str], source: bytes) -> treelite.Model:
    """Load the trees alone, under an objective that treelite knows."""
    n_classes = header.get("num_class", "1")
    neutral = "regression" if n_classes == "1" else f"multiclass num_class:{n_classes}"
    text = source.decode().replace("\r\n", "\n").partition("\nend of trees\n")[0]
    head, mark, body = text.partition("\nTree=")
    lines = [line for line in head.split("\n") if not line.startswith("objective=")]
    head = "\n".join([*lines, f"objective={neutral}", ""])
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.txt"
        path.write_text(head + mark + body + "\nend of trees\n")
        try:
            return treelite.frontend.load_lightgbm_model(path)
        except treelite.TreeliteError as error:
            raise InvalidModel(f"treelite cannot read the LightGBM model file: {error}") from error


def _link(objective: str) -> Link:
    word, *parameters = objective.split(" ")
    given = dict(parameter.partition(":")[::2] for parameter in parameters)
    if "sqrt" in given:
        raise UnsupportedModel("objective 'regression sqrt' squares its margin; train with reg_sqrt=false")
    if word in IDENTITY:
        return Link()
    if word in EXPONENTIAL:
        return Link("exp")
    if word in {"binary", "multiclassova"}:
        return Link("sigmoid", float(given.get("sigmoid", "1")))
    if word == "cross_entropy":
        return Link("sigmoid")
    if word == "multiclass":
        return Link("softmax")
    raise UnsupportedModel(f"objective '{objective}' has no exact link here; objectives known are {_known()}")


def _known() -> str:
    return ", ".join(
        sorted(IDENTITY | EXPONENTIAL | {"binary", "multiclass", "multiclassova", "cross_entropy"})
    )


def _features(
    names: list[str],
    header: Mapping[str, str],
    trees: Sequence[Mapping[str, str]],
    footer: str,
    options: Options,
) -> tuple[Feature, ...]:
    maps = _pandas_categorical(footer)
    owned = owners(maps, _columns(names, header, trees, footer, options)) if maps else {}
    return tuple(
        _feature(name, owned[number], options) if number in owned else Feature(name)
        for number, name in enumerate(names)
    )


def _columns(
    names: list[str],
    header: Mapping[str, str],
    trees: Sequence[Mapping[str, str]],
    footer: str,
    options: Options,
) -> list[Column]:
    categorical = _categorical_indices(footer, names)
    infos = header.get("feature_infos", "").split(" ")
    infos += ["none"] * (len(names) - len(infos))
    known, fractions = _asked(trees, len(names))
    if "[forcedbins_filename: ]" not in footer:
        fractions[:] = False
    return [
        Column(
            name,
            is_categorical=number in categorical,
            highest=math.inf if fractions[number] else _highest(infos[number]),
            known=known[number],
            given=options.categories(name),
        )
        for number, name in enumerate(names)
    ]


def _highest(info: str) -> float:
    """The highest code that a feature's values may be: ``[0:5]`` of numbers, ``-1:3:0:2`` of a category."""
    values = [float(word) for word in info.strip("[]").split(":")] if ":" in info else [-1.0]
    are_codes = not info.startswith("[") or (values[0] >= 0 and all(value.is_integer() for value in values))
    return max(values) if are_codes else math.inf


def _asked(
    trees: Iterable[Mapping[str, str]], n_features: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What the splits tell of each feature's values; each [n_features].

    Returns:
        How many codes they tell from missing values, inf where one compares numbers; and whether one
        compares with other than whole numbers and halves, as between codes: LightGBM splits halfway.
    """
    known, fractions = np.zeros(n_features), np.zeros(n_features, bool)
    for tree in trees:
        features = _numbers(tree, "split_feature", int).astype(int)
        is_set = (_numbers(tree, "decision_type", int).astype(int) & CATEGORICAL_BIT) > 0
        thresholds = _numbers(tree, "threshold", float)
        known[features[~is_set]] = math.inf
        ends, words = _numbers(tree, "cat_boundaries", int), _numbers(tree, "cat_threshold", int)
        for feature, number in zip(features[is_set], thresholds[is_set].astype(int), strict=True):
            known[feature] = max(known[feature], _n_codes(words[ends[number] : ends[number + 1]]))
        halves = np.rint(2 * thresholds) / 2
        fractions[features[~is_set & ~np.isclose(thresholds, halves, rtol=1e-12, atol=1e-12)]] = True
    return known, fractions


def _n_codes(words: NDArray[np.int_]) -> int:
    """One more than the highest code of a category set, whose members are the bits of 32-bit words."""
    words = np.trim_zeros(words, "b")
    return 32 * (len(words) - 1) + int(words[-1]).bit_length() if len(words) else 0


def _feature(name: str, categories: list[object], options: Options) -> Feature:
    if are_booleans(categories):
        return Feature(name, "bool")
    if are_strings(categories):
        return Feature(name, "category", tuple(str(value) for value in categories))
    if are_integers(categories):
        return Feature(name, "category", tuple(int(value) for value in categories))  # type: ignore[call-overload]
    if options.categories(name):
        return Feature(name)
    raise UnsupportedModel(
        f"feature '{name}' has categories that are neither all strings nor all integers, such as"
        f" {categories[0]!r}; list them as strings, in the same order, in a features file"
    )


def _pandas_categorical(footer: str) -> list[list[object]]:
    last = footer.rstrip("\n").rpartition("\n")[2]
    word, _, value = last.partition(":")
    if word != "pandas_categorical" or value == "null":
        return []
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise InvalidModel(f"'pandas_categorical' of the LightGBM model file: {error}") from error


def _categorical_indices(footer: str, names: list[str]) -> list[int]:
    """From the recorded parameter: ``0,3``, or ``name:carrier,origin`` of LightGBM's own command line."""
    mark = "[categorical_feature: "
    line = next((line for line in footer.split("\n") if line.startswith(mark)), mark + "]")
    words = line[len(mark) : -1].removeprefix("name:").split(",")
    try:
        return sorted(names.index(word) if word in names else int(word) for word in words if word)
    except ValueError as error:
        raise InvalidModel(f"'categorical_feature' of the LightGBM model file: {error}") from error
