"""Golden JSON models, one value mutated at a time: the library's margins, or a refusal in a sentence.

Where the library itself refuses a mutant, we may only refuse it, or read what is harmless.
"""

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import pytest
import xgboost as xgb

from engine.errors import InvalidModel, UnsupportedModel
from engine.importers.catboost import LINKS as CATBOOST_LINKS
from engine.importers.xgboost import LINKS as XGBOOST_LINKS
from engine.packing import pack
from tests.engine.importers.margins import forest_of, margins_of, same_bits, troubled_rows

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(400, 4)).astype(np.float32)
X[::7, 1] = np.nan
Y = X[:, 0] * 2 + np.nan_to_num(X[:, 1]) + RANDOM.normal(size=400)
CODES = X.copy()
CODES[:, 2] = RANDOM.integers(0, 6, 400)
NUMBERS = [0.0, -0.0, 0.5, -1e-45, 1e30, -3.4e38]
Document = Any
Margins = Callable[[bytes, Any], Any]


def xgboost_document(categorical: bool) -> Document:
    kinds = ["q", "q", "c", "q"] if categorical else None
    rows, y = (CODES, Y + 5 * (CODES[:, 2] % 3)) if categorical else (X, Y)
    data = xgb.DMatrix(rows, y, feature_types=kinds, enable_categorical=categorical)
    booster = xgb.train({"max_depth": 3, "nthread": 1, "max_cat_to_onehot": 2}, data, 3)
    return json.loads(bytes(booster.save_raw(raw_format="json")))


def catboost_document(policy: str) -> Document:
    """Leaves are rounded to 2^-10: CatBoost reads other decimals back with errors of an ulp."""
    model = catboost.CatBoostRegressor(
        iterations=3, depth=3, verbose=0, grow_policy=policy, allow_writing_files=False, thread_count=1
    ).fit(X, Y)
    with tempfile.TemporaryDirectory() as folder:
        model.save_model(f"{folder}/m.json", format="json")
        document = json.loads(Path(folder, "m.json").read_text())
    for tree in document.get("oblivious_trees", ()):
        tree["leaf_values"] = [round(value * 1024) / 1024 for value in tree["leaf_values"]]
    for tree in document.get("trees", ()):
        for node in nested(tree):
            if "value" in node:
                node["value"] = round(node["value"] * 1024) / 1024
    document["scale_and_bias"] = [1, [0.5]]
    return document


def nested(node: Any) -> Iterator[Any]:
    yield node
    if "split" in node:
        yield from nested(node["left"])
        yield from nested(node["right"])


def xgboost_margins(source: bytes, rows: Any) -> Any:
    booster = xgb.Booster()
    booster.load_model(bytearray(source))
    kinds = booster.feature_types
    data = xgb.DMatrix(rows, feature_types=kinds, enable_categorical=bool(kinds and "c" in kinds))
    return booster.predict(data, output_margin=True).reshape(len(rows), -1)


def catboost_margins(source: bytes, rows: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "m.json").write_bytes(source)
        model = catboost.CatBoost().load_model(f"{folder}/m.json", format="json")
        return np.asarray(model.predict(rows, prediction_type="RawFormulaVal", thread_count=1)).reshape(
            len(rows), -1
        )


def exact_or_refused(document: Document, margins: Margins, folder: Path, known: Any = None) -> str:
    """``exact`` or ``refused``; fails where a mutant is read, but not as its library reads it."""
    source = json.dumps(document).encode()
    (folder / "mutant.json").write_bytes(source)
    try:
        path = pack(folder / "mutant.json", name="mutant", out=folder)
    except (InvalidModel, UnsupportedModel):
        return "refused"
    rows = troubled_rows(forest_of(path), 200, seed=1, dtype=np.float32)
    rows[np.isinf(rows)] = 7.0  # XGBoost takes no infinities
    for column, codes in (known or {}).items():
        rows[:, column] = np.random.default_rng(2).choice(codes, len(rows))
    assert same_bits(margins_of(path, rows), margins(source, rows))
    return "exact"


@pytest.fixture(scope="module")
def golden() -> dict[str, Document]:
    return {
        "xgboost": xgboost_document(categorical=False),
        "categories": xgboost_document(categorical=True),
        "SymmetricTree": catboost_document("SymmetricTree"),
        "Lossguide": catboost_document("Lossguide"),
    }


def tree_of(document: Document, number: int = 1) -> Any:
    return document["learner"]["gradient_booster"]["model"]["trees"][number]


def inner_nodes(tree: Any) -> list[int]:
    return [node for node, child in enumerate(tree["left_children"]) if child >= 0]


@pytest.mark.parametrize("kind", ["xgboost", "categories"])
def test_every_xgboost_node_takes_either_default(kind: str, golden: Any, tmp_path: Path) -> None:
    known = {2: [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, np.nan]} if kind == "categories" else None
    for node in inner_nodes(tree_of(golden[kind])):
        for side in (0, 1):
            mutant = copy.deepcopy(golden[kind])
            tree_of(mutant)["default_left"][node] = side
            assert exact_or_refused(mutant, xgboost_margins, tmp_path, known) == "exact"


@pytest.mark.parametrize("value", NUMBERS, ids=str)
def test_every_xgboost_threshold_and_leaf_is_read_as_xgboost_does(
    value: float, golden: Any, tmp_path: Path
) -> None:
    for node in range(len(tree_of(golden["xgboost"])["left_children"])):
        mutant = copy.deepcopy(golden["xgboost"])
        tree_of(mutant)["split_conditions"][node] = value
        assert exact_or_refused(mutant, xgboost_margins, tmp_path) == "exact"


def test_an_xgboost_node_may_test_any_feature_and_swap_its_children(golden: Any, tmp_path: Path) -> None:
    for feature in range(4):
        mutant = copy.deepcopy(golden["xgboost"])
        tree_of(mutant)["split_indices"][0] = feature
        assert exact_or_refused(mutant, xgboost_margins, tmp_path) == "exact"
    mutant = copy.deepcopy(golden["xgboost"])
    tree = tree_of(mutant)
    tree["left_children"][0], tree["right_children"][0] = tree["right_children"][0], tree["left_children"][0]
    exact_or_refused(mutant, xgboost_margins, tmp_path)


def test_every_set_of_categories_is_read_as_xgboost_does(golden: Any, tmp_path: Path) -> None:
    known = {2: [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, np.nan]}
    changed = 0
    for number in range(3):
        tree = tree_of(golden["categories"], number)
        for place in range(len(tree["categories"])):
            for code in range(6):
                mutant = copy.deepcopy(golden["categories"])
                tree_of(mutant, number)["categories"][place] = code
                changed += exact_or_refused(mutant, xgboost_margins, tmp_path, known) == "exact"
    assert changed > 0


@pytest.mark.parametrize("objective", [*XGBOOST_LINKS, "reg:unheard-of", "binary:hinge", "rank:new"])
def test_every_xgboost_objective_is_exact_or_refused(objective: str, golden: Any, tmp_path: Path) -> None:
    mutant = copy.deepcopy(golden["xgboost"])
    mutant["learner"]["objective"]["name"] = objective
    mutant["learner"]["learner_model_param"]["base_score"] = "[3E-1]"
    path = tmp_path / "mutant.json"
    path.write_text(json.dumps(mutant))
    if objective not in XGBOOST_LINKS:
        with pytest.raises(UnsupportedModel, match=objective):
            pack(path, name="mutant", out=tmp_path)
        return
    try:
        xgboost_margins(path.read_bytes(), X)
    except xgb.core.XGBoostError:  # the objective wants parameters that the golden model has not
        pack(path, name="mutant", out=tmp_path)
        return
    assert exact_or_refused(mutant, xgboost_margins, tmp_path) == "exact"


@pytest.mark.parametrize("base", ["[0E0]", "[1E0]", "[-2.5E0]", "[1E-10]", "[1E30]", "5E-1"])
def test_every_xgboost_base_score_is_read_as_xgboost_does(base: str, golden: Any, tmp_path: Path) -> None:
    mutant = copy.deepcopy(golden["xgboost"])
    mutant["learner"]["learner_model_param"]["base_score"] = base
    assert exact_or_refused(mutant, xgboost_margins, tmp_path) == "exact"


@pytest.mark.parametrize("key", ["split_type", "left_children", "right_children", "split_indices"])
@pytest.mark.parametrize("value", [-7, 1, 2**31 - 1, 10**12])
def test_a_wild_number_in_an_xgboost_tree_is_refused_or_harmless(
    key: str, value: int, golden: Any, tmp_path: Path
) -> None:
    mutant = copy.deepcopy(golden["xgboost"])
    tree_of(mutant)[key][0] = value
    (tmp_path / "mutant.json").write_text(json.dumps(mutant))
    try:
        pack(tmp_path / "mutant.json", name="mutant", out=tmp_path)
        harmless = True
    except (InvalidModel, UnsupportedModel):
        harmless = False
    if harmless:
        assert (key, value) in {("left_children", 1), ("split_indices", 1)}


def splits_of(document: Document, policy: str) -> list[Any]:
    if policy == "SymmetricTree":
        return list(document["oblivious_trees"][1]["splits"])
    return [node["split"] for node in nested(document["trees"][1]) if "split" in node]


@pytest.mark.parametrize("policy", ["SymmetricTree", "Lossguide"])
@pytest.mark.parametrize("treatment", ["AsIs", "AsTrue", "AsFalse"])
def test_every_treatment_of_missing_values_is_read_as_catboost_does(
    treatment: str, policy: str, golden: Any, tmp_path: Path
) -> None:
    for feature in range(4):
        mutant = copy.deepcopy(golden[policy])
        mutant["features_info"]["float_features"][feature]["nan_value_treatment"] = treatment
        mutant["features_info"]["float_features"][feature]["has_nans"] = True
        assert exact_or_refused(mutant, catboost_margins, tmp_path) in {"exact", "refused"}


@pytest.mark.parametrize("policy", ["SymmetricTree", "Lossguide"])
@pytest.mark.parametrize("value", [0.5, -2.25, 0.0, 1024.0])
def test_every_catboost_leaf_is_read_as_catboost_does(
    value: float, policy: str, golden: Any, tmp_path: Path
) -> None:
    mutant = copy.deepcopy(golden[policy])
    if policy == "SymmetricTree":
        mutant["oblivious_trees"][1]["leaf_values"][0] = value
    else:
        next(node for node in nested(mutant["trees"][1]) if "value" in node)["value"] = value
    assert exact_or_refused(mutant, catboost_margins, tmp_path) == "exact"


@pytest.mark.parametrize("policy", ["SymmetricTree", "Lossguide"])
@pytest.mark.parametrize("kind", ["OneHotFeature", "OnlineCtr", "Unheard"])
def test_other_catboost_splits_are_refused_by_name(
    kind: str, policy: str, golden: Any, tmp_path: Path
) -> None:
    mutant = copy.deepcopy(golden[policy])
    splits_of(mutant, policy)[0]["split_type"] = kind
    (tmp_path / "mutant.json").write_text(json.dumps(mutant))
    with pytest.raises(UnsupportedModel, match=kind):
        pack(tmp_path / "mutant.json", name="mutant", out=tmp_path)


@pytest.mark.parametrize("pair", [[1, [0.0]], [2.5, [0.0]], [-1, [3.5]], [0, [1.0]]], ids=str)
def test_every_scale_and_bias_is_read_as_catboost_does(pair: Any, golden: Any, tmp_path: Path) -> None:
    mutant = copy.deepcopy(golden["SymmetricTree"])
    mutant["scale_and_bias"] = pair
    assert exact_or_refused(mutant, catboost_margins, tmp_path) == "exact"


@pytest.mark.parametrize("loss", [*CATBOOST_LINKS, "Unheard", "SurvivalAft", "Cox"])
def test_every_catboost_loss_is_exact_or_refused(loss: str, golden: Any, tmp_path: Path) -> None:
    mutant = copy.deepcopy(golden["SymmetricTree"])
    parameters = mutant["model_info"]["params"]
    parameters = json.loads(parameters) if isinstance(parameters, str) else parameters
    parameters["loss_function"]["type"] = loss
    mutant["model_info"]["params"] = parameters
    expected = "exact" if loss in CATBOOST_LINKS else "refused"
    assert exact_or_refused(mutant, catboost_margins, tmp_path) == expected
