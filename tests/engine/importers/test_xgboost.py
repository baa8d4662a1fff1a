"""XGBoost's own margins are the truth: packed models give the same bits."""

import json

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bundle import Link, read_bundle
from engine.errors import InvalidModel, UnsupportedModel
from engine.packing import pack
from tests.engine.importers.margins import forest_of, margins_of, same_bits, troubled_rows

SIGMOID = Link("sigmoid")
EXP = Link("exp")
N = 400


def a_matrix(seed=0):
    X = np.random.default_rng(seed).normal(size=(N, 5)).astype(np.float32)
    X[::7, 1] = np.nan
    return X


def a_target(X, objective, seed=0):
    y = X[:, 0] * 2 + np.random.default_rng(seed).normal(size=len(X))
    if objective.startswith(("binary", "reg:logistic")):
        return (y > 0.3).astype(float)
    if objective.startswith(("multi", "rank")):
        return np.digitize(y, [-1, 1])
    return np.abs(y) + 0.1


def trained(objective="reg:squarederror", rounds=6, **parameters):
    X = a_matrix()
    y = a_target(X, objective)
    data = xgb.DMatrix(X, y)
    if objective.startswith("rank"):
        data.set_group([100] * 4)
    if objective == "survival:aft":
        data.set_float_info("label_lower_bound", y)
        data.set_float_info("label_upper_bound", y)
    return xgb.train(
        {"objective": objective, "max_depth": 4, "nthread": 1, "verbosity": 0, **parameters}, data, rounds
    )


def packed(booster, tmp_path, suffix="json", **options):
    path = tmp_path / f"model.{suffix}"
    booster.save_model(path)
    return pack(path, name="m", out=tmp_path, **options)


def library_margins(booster, X):
    return booster.predict(xgb.DMatrix(X), output_margin=True).reshape(len(X), -1)


OBJECTIVES = [
    ("binary:logistic", {}, SIGMOID),
    ("binary:logitraw", {}, Link()),
    ("reg:logistic", {}, SIGMOID),
    ("multi:softprob", {"num_class": 3}, Link("softmax")),
    ("multi:softmax", {"num_class": 3}, Link("softmax")),
    ("count:poisson", {}, EXP),
    ("reg:gamma", {}, EXP),
    ("reg:tweedie", {}, EXP),
    ("survival:cox", {}, EXP),
    ("survival:aft", {}, EXP),
    ("reg:squarederror", {}, Link()),
    ("reg:squaredlogerror", {}, Link()),
    ("reg:pseudohubererror", {}, Link()),
    ("reg:absoluteerror", {}, Link()),
    ("reg:quantileerror", {"quantile_alpha": [0.1, 0.5]}, Link()),
    ("rank:ndcg", {}, Link()),
    ("rank:pairwise", {}, Link()),
    ("reg:squarederror", {"num_parallel_tree": 3, "subsample": 0.5}, Link()),
    ("reg:squarederror", {"base_score": 1e30}, Link()),
    ("reg:squarederror", {"booster": "dart", "rate_drop": 0.5}, Link()),
    ("binary:logistic", {"base_score": 0.123}, SIGMOID),
]


@pytest.mark.parametrize("suffix", ["json", "ubj"])
@pytest.mark.parametrize(("objective", "parameters", "link"), OBJECTIVES, ids=str)
def test_every_objective_gives_the_margins_of_xgboost_and_its_link(
    objective, parameters, link, suffix, tmp_path
):
    booster = trained(objective, **parameters)
    path = packed(booster, tmp_path, suffix)
    X = finite(troubled_rows(forest_of(path), 300, seed=1, dtype=np.float32))

    assert same_bits(margins_of(path, X), library_margins(booster, X))
    assert read_bundle(path).manifest.link == link
    assert read_bundle(path).manifest.schema.block == "float32"


def finite(X):
    """DMatrix refuses infinities, as training does."""
    return np.where(np.isinf(X), np.float32(1e38) * np.sign(X), X)


@pytest.mark.parametrize(("objective", "parameters", "link"), OBJECTIVES, ids=str)
def test_the_link_turns_margins_into_what_xgboost_predicts(objective, parameters, link, tmp_path):
    if objective == "multi:softmax":
        objective = "multi:softprob"
    booster = trained(objective, **parameters)
    margins = margins_of(packed(booster, tmp_path), a_matrix(1))
    applied = {
        "identity": lambda m: m,
        "exp": np.exp,
        "sigmoid": lambda m: 1 / (1 + np.exp(-m)),
        "softmax": lambda m: np.exp(m) / np.exp(m).sum(axis=1, keepdims=True),
    }[link.name](margins)
    predicted = booster.predict(xgb.DMatrix(a_matrix(1)))
    np.testing.assert_allclose(applied, predicted.reshape(N, -1), rtol=1e-6)


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    booster = trained("binary:logistic", rounds=10)
    return booster, packed(booster, tmp_path_factory.mktemp("golden"))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_rows_drawn_at_random_score_as_in_xgboost(golden, seed):
    booster, path = golden
    X = finite(troubled_rows(forest_of(path), 50, seed=seed, dtype=np.float32))
    assert same_bits(margins_of(path, X), library_margins(booster, X))


@settings(max_examples=25, deadline=None)
@given(base=st.floats(2.0**-20, 1 - 2.0**-20, width=32))
def test_the_margin_of_any_base_score_is_that_of_xgboost(tmp_path_factory, base):
    booster = trained("binary:logistic", rounds=1, base_score=base)
    path = packed(booster, tmp_path_factory.mktemp("base"), "ubj")
    assert same_bits(margins_of(path, a_matrix()[:20]), library_margins(booster, a_matrix()[:20]))


def test_vector_leaves_score_as_in_xgboost(tmp_path):
    X = a_matrix()
    Y = np.column_stack([X[:, 0], -X[:, 2], X[:, 3] ** 2])
    booster = xgb.train(
        {"multi_strategy": "multi_output_tree", "tree_method": "hist", "max_depth": 4}, xgb.DMatrix(X, Y), 5
    )
    path = packed(booster, tmp_path)
    X = finite(troubled_rows(forest_of(path), 300, seed=2, dtype=np.float32))
    assert same_bits(margins_of(path, X), library_margins(booster, X))
    assert read_bundle(path).manifest.schema.output.labels == ("0", "1", "2")


def test_one_tree_per_target_scores_as_in_xgboost(tmp_path):
    X = a_matrix()
    booster = xgb.train({"max_depth": 4}, xgb.DMatrix(X, np.column_stack([X[:, 0], -X[:, 2]])), 5)
    path = packed(booster, tmp_path)
    assert same_bits(margins_of(path, X), library_margins(booster, X))


def a_frame():
    random = np.random.default_rng(3)
    frame = pd.DataFrame({
        "delay": random.normal(size=N).astype(np.float32),
        "carrier": pd.Categorical(random.choice(["AA", "UA", "", "WN"], N)),
        "gate": random.integers(0, 9, N),
        "month": pd.Categorical(random.choice([1, 5, 12], N)),
    })  # fmt: skip
    frame.loc[::11, "carrier"] = None
    return frame


def with_categories(**parameters):
    frame = a_frame()
    y = frame["gate"] + 5 * (frame["carrier"] == "UA") + 3 * (frame["month"] == 5) + frame["delay"]
    parameters = {"max_depth": 5, "max_cat_to_onehot": 1, **parameters}
    return xgb.train(parameters, xgb.DMatrix(frame, y, enable_categorical=True), 8)


def codes(frame):
    coded = frame.copy()
    for name in ("carrier", "month"):
        coded[name] = frame[name].cat.codes.replace(-1, np.nan)
    return coded.to_numpy(np.float32)


@pytest.mark.parametrize("suffix", ["json", "ubj"])
@pytest.mark.parametrize("onehot", [1, 100])
def test_categories_come_along_in_code_order_and_score_as_in_xgboost(suffix, onehot, tmp_path):
    booster = with_categories(max_cat_to_onehot=onehot)
    path = packed(booster, tmp_path, suffix)
    frame = a_frame()
    expected = booster.predict(xgb.DMatrix(frame, enable_categorical=True), output_margin=True)

    features = read_bundle(path).manifest.schema.features
    assert [feature.type for feature in features] == ["float32", "category", "float32", "category"]
    assert features[1].categories == tuple(frame["carrier"].cat.categories)
    assert features[3].categories == (1, 5, 12)
    assert same_bits(margins_of(path, codes(frame))[:, 0], expected)


def test_names_beyond_ascii_which_xgboost_damages_must_be_listed(tmp_path):
    frame = a_frame()
    frame["carrier"] = frame["carrier"].cat.rename_categories({"AA": "Ää"})
    booster = xgb.train({"max_depth": 5}, xgb.DMatrix(frame, frame["gate"], enable_categorical=True), 2)
    with pytest.raises(UnsupportedModel, match=r"'carrier'.*features file"):
        packed(booster, tmp_path)
    (tmp_path / "features.yaml").write_text("features: {carrier: {categories: ['', Ää, UA, WN]}}")
    path = packed(booster, tmp_path, features=tmp_path / "features.yaml")
    assert read_bundle(path).manifest.schema.features[1].categories == ("", "Ää", "UA", "WN")


def test_an_unseen_category_makes_a_row_bad_because_xgboost_mistakes_it_for_another(tmp_path):
    booster = with_categories()
    frame = a_frame().head(50)
    as_next = frame.assign(carrier=pd.Categorical(["B6"] * 50))
    next_one = frame.assign(carrier=pd.Categorical(["UA"] * 50))
    predict = [booster.predict(xgb.DMatrix(data, enable_categorical=True)) for data in (as_next, next_one)]

    assert same_bits(*predict)
    assert read_bundle(packed(booster, tmp_path)).manifest.schema.features[1].unseen == "bad"


def test_categories_without_a_map_are_codes_unless_the_features_file_names_them(tmp_path):
    X = codes(a_frame())
    X[np.isnan(X)] = 0
    data = xgb.DMatrix(
        X, X[:, 0] + 3 * (X[:, 1] == 2), feature_types=["float", "c", "float", "c"], enable_categorical=True
    )
    booster = xgb.train({"max_depth": 4, "max_cat_to_onehot": 1}, data, 5)
    plain = packed(booster, tmp_path)
    (tmp_path / "features.yaml").write_text("features: {f1: {rename: carrier, categories: [AA, UA, WN, B6]}}")
    named = packed(booster, tmp_path, features=tmp_path / "features.yaml")
    types = [
        [feature.type for feature in read_bundle(path).manifest.schema.features] for path in (plain, named)
    ]

    assert types == [["float32", "int32", "float32", "int32"], ["float32", "category", "float32", "int32"]]
    assert same_bits(margins_of(plain, X)[:, 0], booster.predict(data, output_margin=True))


def test_an_estimator_stopped_early_is_packed_with_the_trees_it_predicts_with(tmp_path):
    X = a_matrix()
    y = a_target(X, "binary")
    random = np.random.default_rng(1)
    model = xgb.XGBClassifier(n_estimators=30, early_stopping_rounds=2, max_depth=3)
    model.fit(X, y, eval_set=[(a_matrix(2), random.integers(0, 2, N))], verbose=False)
    path = pack(model, name="m", out=tmp_path)

    assert forest_of(path).n_trees == model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    assert same_bits(margins_of(path, X)[:, 0], model.predict(X, output_margin=True))


def test_a_file_stopped_early_is_packed_whole_and_says_so(tmp_path):
    booster = trained(rounds=6)
    booster.set_attr(best_iteration="2")
    manifest = read_bundle(packed(booster, tmp_path)).manifest
    assert "All 6 rounds are used" in manifest.provenance.notes[0]
    assert "booster[: 3]" in manifest.provenance.notes[0]


def test_a_classifier_of_several_classes_gives_its_labels(tmp_path):
    X = a_matrix()
    model = xgb.XGBClassifier(n_estimators=3).fit(X, a_target(X, "multi"))
    path = pack(model, name="m", out=tmp_path)
    assert read_bundle(path).manifest.schema.output.columns == ("score_0", "score_1", "score_2")
    assert same_bits(margins_of(path, X), model.predict(X, output_margin=True))


@pytest.mark.parametrize(
    ("objective", "parameters", "word"),
    [("binary:hinge", {}, "binary:hinge"), ("reg:squarederror", {"booster": "gblinear"}, "gblinear")],
)
def test_what_is_not_exact_is_refused_by_name(objective, parameters, word, tmp_path):
    with pytest.raises(UnsupportedModel, match=word):
        packed(trained(objective, **parameters), tmp_path)


@pytest.mark.parametrize("missing", [-999.0, 0.0, np.inf])
def test_an_estimator_that_takes_a_number_for_a_missing_value_is_refused(missing, tmp_path):
    X = a_matrix()
    model = xgb.XGBRegressor(n_estimators=3, missing=missing).fit(X, a_target(X, "reg"))
    with pytest.raises(UnsupportedModel, match=f"missing={missing}"):
        pack(model, name="m", out=tmp_path)


@pytest.mark.parametrize("suffix", ["json", "ubj"])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.999])
def test_a_file_cut_short_is_no_model(suffix, share, golden, tmp_path):
    source = bytes(golden[0].save_raw(raw_format=suffix))
    (tmp_path / "cut").write_bytes(source[: int(len(source) * share)])
    with pytest.raises(InvalidModel):
        pack(tmp_path / "cut", name="m", out=tmp_path)


@pytest.mark.parametrize("key", ["gradient_booster", "objective", "learner_model_param"])
def test_a_document_without_its_parts_is_no_model(key, golden, tmp_path):
    document = json.loads(golden[0].save_raw(raw_format="json"))
    del document["learner"][key]
    (tmp_path / "model.json").write_text(json.dumps(document))
    with pytest.raises(InvalidModel, match=key):
        pack(tmp_path / "model.json", name="m", out=tmp_path)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("left_children", lambda values: [5000, *values[1:]]),
        ("left_children", lambda values: [0, *values[1:]]),
        ("right_children", lambda values: values[:-1]),
        ("split_indices", lambda values: [5000, *values[1:]]),
        ("split_conditions", lambda values: [*values, 1.0]),
        ("default_left", lambda values: {"a": 1}),
        ("default_left", lambda values: ["a"] * len(values)),
        ("split_type", lambda values: [1] * len(values)),
        ("categories", lambda values: [-5]),
        ("tree_param", lambda values: None),
    ],
)
def test_a_tree_whose_arrays_do_not_agree_is_no_model(key, change, golden, tmp_path):
    document = json.loads(golden[0].save_raw(raw_format="json"))
    tree = document["learner"]["gradient_booster"]["model"]["trees"][0]
    tree[key] = change(tree[key])
    (tmp_path / "model.json").write_text(json.dumps(document))
    with pytest.raises(InvalidModel):
        pack(tmp_path / "model.json", name="m", out=tmp_path)


def test_an_array_that_claims_more_than_the_file_holds_is_refused_before_room_is_made(golden, tmp_path):
    source = bytes(golden[0].save_raw(raw_format="ubj"))
    place = source.index(b"[$d#L") + 5
    (tmp_path / "model.ubj").write_bytes(source[:place] + (1 << 40).to_bytes(8, "big") + source[place + 8 :])
    with pytest.raises(InvalidModel, match="longer than the file"):
        pack(tmp_path / "model.ubj", name="m", out=tmp_path)


def test_nodes_that_pruning_left_behind_are_dropped(tmp_path):
    booster = trained(tree_method="exact", gamma=5.0, max_depth=6)
    document = json.loads(booster.save_raw(raw_format="json"))
    trees = document["learner"]["gradient_booster"]["model"]["trees"]
    path = packed(booster, tmp_path)
    X = finite(troubled_rows(forest_of(path), 300, seed=3, dtype=np.float32))

    assert any(int(tree["tree_param"]["num_deleted"]) > 0 for tree in trees)
    assert same_bits(margins_of(path, X), library_margins(booster, X))
