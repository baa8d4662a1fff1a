"""LightGBM's own margins are the truth: packed models give the same bits."""

import json

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bundle import Link, read_bundle
from engine.errors import InvalidModel, UnsupportedModel
from engine.packing import pack
from tests.engine.importers.margins import forest_of, margins_of, same_bits, troubled_rows

QUIET = {"verbose": -1, "num_leaves": 15, "min_data_in_leaf": 5, "num_threads": 1, "min_data_per_group": 5}


def a_frame(n=600, seed=0):
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({
        "delay": random.normal(size=n),
        "carrier": pd.Categorical(random.choice(["AA", "UA", "é=ß", "WN"], n)),
        "gate": random.integers(0, 9, n).astype(np.float64),
        "month": pd.Categorical(random.choice([1, 5, 12], n)),
    })  # fmt: skip
    frame.loc[::7, "delay"] = np.nan
    frame.loc[::11, "carrier"] = None
    return frame


def a_target(frame, seed=0):
    random = np.random.default_rng(seed)
    return (
        frame["gate"].astype(float) + 5 * (frame["carrier"] == "UA") + random.normal(size=len(frame))
    ).to_numpy()


def trained(frame=None, rounds=7, **parameters):
    frame = a_frame() if frame is None else frame
    parameters = {"objective": "regression", **QUIET, **parameters}
    y = a_target(frame)
    objective = parameters["objective"]
    if objective in {"binary", "cross_entropy", "cross_entropy_lambda"}:
        y = (y > y.mean()).astype(float)
    elif parameters.get("num_class", 1) > 1:
        y = pd.qcut(y, parameters["num_class"], labels=False)
    elif objective in {"poisson", "gamma", "tweedie"}:
        y = np.abs(y) + 0.1
    elif objective in {"lambdarank", "rank_xendcg"}:
        y = pd.qcut(y, 4, labels=False)
    data = lgb.Dataset(frame, y, group=[50] * (len(frame) // 50) if "rank" in str(objective) else None)
    return lgb.train(parameters, data, rounds)


def packed(booster, tmp_path, **options):
    path = tmp_path / "model.txt"
    booster.save_model(path)
    return pack(path, name="late", out=tmp_path, **options)


def library_margins(booster, X):
    margins = booster.predict(X, raw_score=True, num_threads=1)
    return margins.reshape(len(X), -1)


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """A model with numeric and categorical splits, its text, and rows that look for trouble."""
    folder = tmp_path_factory.mktemp("golden")
    booster = trained(rounds=5)
    forest = forest_of(packed(booster, folder))
    return (folder / "model.txt").read_text(), troubled_rows(forest, 400, seed=1)


OBJECTIVES = [
    ({"objective": "regression"}, Link()),
    ({"objective": "regression_l1"}, Link()),
    ({"objective": "huber"}, Link()),
    ({"objective": "fair"}, Link()),
    ({"objective": "quantile"}, Link()),
    ({"objective": "mape"}, Link()),
    ({"objective": "poisson"}, Link("exp")),
    ({"objective": "gamma"}, Link("exp")),
    ({"objective": "tweedie"}, Link("exp")),
    ({"objective": "binary"}, Link("sigmoid")),
    ({"objective": "binary", "sigmoid": 0.7}, Link("sigmoid", 0.7)),
    ({"objective": "cross_entropy"}, Link("sigmoid")),
    ({"objective": "multiclass", "num_class": 3}, Link("softmax")),
    ({"objective": "multiclassova", "num_class": 3, "sigmoid": 1.5}, Link("sigmoid", 1.5)),
    ({"objective": "lambdarank"}, Link()),
    ({"objective": "rank_xendcg"}, Link()),
    ({"objective": "binary", "boosting": "dart"}, Link("sigmoid")),
]


@pytest.mark.parametrize(("parameters", "link"), OBJECTIVES, ids=lambda value: str(value))
def test_every_objective_gives_the_margins_of_lightgbm_and_its_link(parameters, link, tmp_path):
    booster = trained(**parameters)
    path = packed(booster, tmp_path)
    X = troubled_rows(forest_of(path), 300, seed=2)

    assert same_bits(margins_of(path, X), library_margins(booster, X))
    assert read_bundle(path).manifest.link == link


@pytest.mark.parametrize(("parameters", "link"), OBJECTIVES, ids=lambda value: str(value))
def test_the_link_turns_margins_into_what_lightgbm_predicts(parameters, link, tmp_path):
    booster = trained(**parameters)
    path = packed(booster, tmp_path)
    X = troubled_rows(forest_of(path), 100, seed=3)
    margins = margins_of(path, X)
    applied = {
        "identity": lambda m: m,
        "exp": np.exp,
        "sigmoid": lambda m: 1 / (1 + np.exp(-link.scale * m)),
        "softmax": lambda m: np.exp(m) / np.exp(m).sum(axis=1, keepdims=True),
    }[link.name](margins)

    np.testing.assert_allclose(applied, booster.predict(X).reshape(len(X), -1), rtol=1e-14)


def test_random_forest_mode_averages(tmp_path):
    booster = trained(boosting="rf", bagging_freq=1, bagging_fraction=0.6, objective="regression")
    path = packed(booster, tmp_path)
    X = troubled_rows(forest_of(path), 300, seed=4)

    assert same_bits(margins_of(path, X), booster.predict(X).reshape(-1, 1))


def test_random_forest_mode_averages_before_the_sigmoid(tmp_path):
    booster = trained(boosting="rf", bagging_freq=1, bagging_fraction=0.6, objective="binary")
    path = packed(booster, tmp_path)
    X = troubled_rows(forest_of(path), 300, seed=4)

    np.testing.assert_allclose(1 / (1 + np.exp(-margins_of(path, X)[:, 0])), booster.predict(X), rtol=1e-14)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_rows_drawn_at_random_score_as_in_lightgbm(golden, tmp_path_factory, seed):
    text, _ = golden
    booster = lgb.Booster(model_str=text)
    path = packed(booster, tmp_path_factory.mktemp("drawn"))
    X = troubled_rows(forest_of(path), 50, seed=seed)

    assert same_bits(margins_of(path, X), library_margins(booster, X))


def test_float32_rows_score_as_in_lightgbm(golden, tmp_path):
    booster = lgb.Booster(model_str=golden[0])
    path = packed(booster, tmp_path)
    X = troubled_rows(forest_of(path), 500, seed=5, dtype=np.float32)

    assert same_bits(margins_of(path, X), library_margins(booster, X))


def mutated(text, tree, key, change):
    """The text with one line of one tree changed, and the sizes of the trees recounted."""
    head, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
    lines = blocks[tree].split("\n")
    place = next(number for number, line in enumerate(lines) if line.startswith(f"{key}="))
    lines[place] = f"{key}=" + " ".join(change(lines[place].partition("=")[2].split()))
    blocks[tree] = "\n".join(lines)
    sizes = " ".join(str(len(f"Tree={block}\n".encode())) for block in blocks)
    kept = [line for line in head.split("\n") if not line.startswith("tree_sizes=")]
    tail = text.partition("\nend of trees")[2]
    return "\nTree=".join(["\n".join([*kept, f"tree_sizes={sizes}", ""]), *blocks]) + "\nend of trees" + tail


def agree(text, X, tmp_path):
    booster = lgb.Booster(model_str=text)
    (tmp_path / "mutant.txt").write_text(text)
    path = pack(tmp_path / "mutant.txt", name="mutant", out=tmp_path)
    return same_bits(margins_of(path, X), library_margins(booster, X))


@pytest.mark.parametrize("decision", [0, 2, 8, 10])
@pytest.mark.parametrize("tree", [0, 3])
def test_every_numeric_decision_type_sends_rows_as_lightgbm_does(golden, tmp_path, decision, tree):
    text, X = golden
    mutant = mutated(
        text, tree, "decision_type", lambda words: [w if int(w) & 1 else str(decision) for w in words]
    )
    assert agree(mutant, X, tmp_path)


@pytest.mark.parametrize("decision", [1, 3, 9, 11])
def test_every_categorical_decision_type_sends_rows_as_lightgbm_does(golden, tmp_path, decision):
    text, X = golden
    mutant = mutated(
        text, 0, "decision_type", lambda words: [str(decision) if int(w) & 1 else w for w in words]
    )
    assert agree(mutant, X, tmp_path)


@pytest.mark.parametrize(
    ("key", "word"),
    [("decision_type", "12"), ("decision_type", "-2"), ("decision_type", "258"), ("split_feature", "-7")],
)
def test_a_split_that_lightgbm_does_not_write_is_no_model(golden, tmp_path, key, word):
    mutant = mutated(golden[0], 0, key, lambda words: [word, *words[1:]])
    (tmp_path / "mutant.txt").write_text(mutant)
    with pytest.raises(InvalidModel, match="tree 0 of the LightGBM model file has a split"):
        pack(tmp_path / "mutant.txt", name="mutant", out=tmp_path)


@pytest.mark.parametrize(
    "threshold",
    [
        "0",
        "-0",
        "1e-35",
        "-1e-35",
        "1.0000000180025095e-35",
        "-1.0000000180025095e-35",
        "1e300",
        "inf",
        "-inf",
        "0.1",
    ],
)
def test_every_threshold_is_compared_as_lightgbm_does(golden, tmp_path, threshold):
    text, X = golden
    mutant = mutated(text, 1, "threshold", lambda words: [threshold if "." in w else w for w in words])
    booster = lgb.Booster(model_str=mutant)
    X = np.concatenate([X, troubled_rows(forest_of(packed(booster, tmp_path)), 300, seed=6)])
    assert agree(mutant, X, tmp_path)


@pytest.mark.parametrize("words", ["0", "4294967295", "2147483648", "10"])
def test_every_category_set_is_read_as_lightgbm_does(golden, tmp_path, words):
    text, X = golden
    assert agree(mutated(text, 0, "cat_threshold", lambda old: [words] * len(old)), X, tmp_path)


@pytest.mark.parametrize("value", ["0", "-0", "1e-300", "123456789.12345678", "1e22", "0.1"])
def test_every_leaf_value_is_read_as_lightgbm_does(golden, tmp_path, value):
    text, X = golden
    assert agree(mutated(text, 2, "leaf_value", lambda old: [value, *old[1:]]), X, tmp_path)


def test_a_tree_of_one_leaf_is_a_constant(tmp_path):
    frame = a_frame()
    booster = lgb.train(
        {**QUIET, "objective": "regression"}, lgb.Dataset(frame, np.full(len(frame), 3.25)), 3
    )
    path = packed(booster, tmp_path)
    X = np.zeros((4, 4))
    assert same_bits(margins_of(path, X), library_margins(booster, X))


def test_a_chain_deeper_than_64_is_read_whole(tmp_path):
    n_leaves = 90
    inner = range(n_leaves - 1)
    block = "\n".join([
        "0", f"num_leaves={n_leaves}", "num_cat=0",
        "split_feature=" + " ".join("0" for _ in inner),
        "split_gain=" + " ".join("1" for _ in inner),
        "threshold=" + " ".join(f"{number}.5" for number in inner),
        "decision_type=" + " ".join("2" for _ in inner),
        "left_child=" + " ".join(str(-number - 1) for number in inner),
        "right_child=" + " ".join(str(number + 1) for number in inner[:-1]) + f" -{n_leaves}",
        "leaf_value=" + " ".join(str(number * 1.25) for number in range(n_leaves)),
        "leaf_weight=" + " ".join("1" for _ in range(n_leaves)),
        "leaf_count=" + " ".join("1" for _ in range(n_leaves)),
        "internal_value=" + " ".join("0" for _ in inner),
        "internal_weight=" + " ".join("1" for _ in inner),
        "internal_count=" + " ".join("1" for _ in inner),
        "is_linear=0", "shrinkage=1", "", "",
    ])  # fmt: skip
    head = (
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=0\n"
        "objective=regression\nfeature_names=a\nfeature_infos=[0:100]\n"
    )
    text = f"{head}tree_sizes={len('Tree=' + block)}\n\nTree={block}\nend of trees\n"
    assert agree(text, np.arange(-1.0, 93.0)[:, None], tmp_path)


def test_categories_come_along_in_code_order(tmp_path):
    features = read_bundle(packed(trained(), tmp_path)).manifest.schema.features

    assert [feature.name for feature in features] == ["delay", "carrier", "gate", "month"]
    assert [feature.type for feature in features] == ["float64", "category", "float64", "category"]
    assert features[1].categories == ("AA", "UA", "WN", "é=ß")
    assert features[3].categories == (1, 5, 12)


def test_boolean_categories_become_a_bool_feature(tmp_path):
    frame = a_frame().assign(night=pd.Categorical([False, True] * 300))
    features = read_bundle(packed(trained(frame), tmp_path)).manifest.schema.features
    assert features[4].type == "bool"


def test_whole_float_categories_become_integers(tmp_path):
    frame = a_frame().assign(gate=pd.Categorical(a_frame()["gate"]))
    features = read_bundle(packed(trained(frame), tmp_path)).manifest.schema.features
    assert features[2].categories == tuple(range(9))


def test_fractional_categories_are_refused_by_name(tmp_path):
    frame = a_frame().assign(gate=pd.Categorical(a_frame()["gate"] + 0.5))
    with pytest.raises(UnsupportedModel, match=r"'gate'.*neither all strings nor all integers"):
        packed(trained(frame), tmp_path)


def test_integers_zero_and_one_are_categories_and_others_are_missing_as_in_lightgbm(tmp_path):
    frame = a_frame().assign(night=pd.Categorical([0, 1] * 300))
    feature = read_bundle(packed(trained(frame), tmp_path)).manifest.schema.features[4]
    assert (feature.type, feature.categories, feature.unseen) == ("category", (0, 1), "missing")


def test_an_estimator_gives_its_class_labels_and_the_trees_it_predicts_with(tmp_path):
    frame = a_frame()
    y = np.array(["early", "late", "on time"])[pd.qcut(a_target(frame), 3, labels=False)]
    model = lgb.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1).fit(frame, y)
    path = pack(model, name="late", out=tmp_path)
    X = troubled_rows(forest_of(path), 100, seed=7)

    assert read_bundle(path).manifest.schema.output.columns == ("score_early", "score_late", "score_on time")
    assert same_bits(margins_of(path, X), library_margins(model.booster_, X))


def test_a_booster_stopped_early_is_packed_with_its_best_trees(tmp_path):
    frame = a_frame()
    train = lgb.Dataset(frame, a_target(frame))
    random = np.random.default_rng(1)
    other = lgb.Dataset(frame, random.normal(size=len(frame)), reference=train)
    booster = lgb.train(
        {**QUIET, "objective": "regression"}, train, 20, valid_sets=[other],
        callbacks=[lgb.early_stopping(3, verbose=False)],
    )  # fmt: skip
    path = pack(booster, name="late", out=tmp_path)
    X = troubled_rows(forest_of(path), 100, seed=8)

    assert forest_of(path).n_trees == booster.best_iteration
    assert same_bits(margins_of(path, X), library_margins(booster, X))


def test_an_estimator_that_leaves_out_trees_is_refused_by_name(tmp_path):
    frame = a_frame()
    model = lgb.LGBMClassifier(n_estimators=3, verbose=-1, pred_early_stop=True)
    model.fit(frame, a_target(frame) > 4)
    with pytest.raises(UnsupportedModel, match="pred_early_stop"):
        pack(model, name="m", out=tmp_path)


def test_a_custom_objective_with_several_outputs_has_no_link(tmp_path):
    def gradient(predictions, data):
        return predictions - 1.0, np.ones_like(predictions)

    booster = trained(objective=gradient, num_class=3)
    path = packed(booster, tmp_path)
    X = troubled_rows(forest_of(path), 100, seed=9)

    assert read_bundle(path).manifest.link == Link()
    assert same_bits(margins_of(path, X), library_margins(booster, X))


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"linear_tree": True, "objective": "regression"}, "linear_tree"),
        ({"zero_as_missing": True}, "zero_as_missing"),
        ({"reg_sqrt": True}, "sqrt"),
        ({"objective": "cross_entropy_lambda"}, "cross_entropy_lambda"),
    ],
)
def test_what_is_not_exact_is_refused_by_name(parameters, word, tmp_path):
    with pytest.raises(UnsupportedModel, match=word):
        packed(trained(**parameters), tmp_path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.8])
def test_a_file_cut_short_is_no_model(golden, tmp_path, share):
    text, _ = golden
    (tmp_path / "cut.txt").write_text(text[: int(text.index("end of trees") * share)])
    with pytest.raises(InvalidModel, match="cut short"):
        pack(tmp_path / "cut.txt", name="late", out=tmp_path)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("left_child", lambda words: ["99", *words[1:]]),
        ("left_child", lambda words: ["0", *words[1:]]),
        ("right_child", lambda words: words[:-1]),
        ("threshold", lambda words: words[:-1]),
        ("threshold", lambda words: ["x", *words[1:]]),
        ("leaf_value", lambda words: words[:-1]),
        ("split_feature", lambda words: ["77", *words[1:]]),
        ("cat_threshold", lambda words: words[:-1]),
        ("cat_boundaries", lambda words: ["0", "900", *words[2:]]),
        ("num_leaves", lambda words: ["1000"]),
    ],
)
def test_an_inconsistent_tree_is_refused_before_anyone_reads_past_its_end(golden, tmp_path, key, change):
    (tmp_path / "bad.txt").write_text(mutated(golden[0], 0, key, change))
    with pytest.raises(InvalidModel):
        pack(tmp_path / "bad.txt", name="late", out=tmp_path)


def test_the_map_of_a_file_from_windows_is_read(golden, tmp_path):
    (tmp_path / "crlf.txt").write_bytes(golden[0].replace("\n", "\r\n").encode())
    path = pack(tmp_path / "crlf.txt", name="late", out=tmp_path)
    categories = read_bundle(path).manifest.schema.features[1].categories
    assert list(categories) == json.loads(golden[0].rpartition("pandas_categorical:")[2])[0]
