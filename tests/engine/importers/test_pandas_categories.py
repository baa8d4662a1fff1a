"""LightGBM's maps of pandas categories go to their own features: people's values score as they do there."""

import itertools

import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from engine.errors import InvalidModel, InvalidTable, UnsupportedModel
from engine.importers.pandas_categories import Column, owners
from engine.packing import pack
from engine.scorer import Scorer

N = 400
QUIET = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 3, "min_data_per_group": 3, "cat_smooth": 1}
MONTHS, CARRIERS, SIZES = [1, 5, 12], ["AA", "UA", "WN"], [0.5, 1.5, 2.5]
DELAYS = np.random.default_rng(0).normal(size=N)


def numbers(high, low=0):
    return np.random.default_rng(high).integers(low, high, N)


def categories(values, ordered=False, seed=0):
    codes = np.random.default_rng(seed).integers(0, len(values), N)
    return pd.Categorical.from_codes(codes, values, ordered=ordered)


def trained(columns, categorical="auto", unused=(), **parameters):
    """A booster whose trees split on every column but the unused ones."""
    frame = pd.DataFrame(columns)
    used = [number for number, name in enumerate(frame) if name not in unused]
    codes = [column.cat.codes if column.dtype == "category" else column for _, column in frame.items()]
    y = sum((7 * codes[number]) % 3 for number in used) + np.random.default_rng(1).normal(size=N) / 9
    parameters = {**QUIET, "interaction_constraints": [used], **parameters}
    booster = lgb.train(parameters, lgb.Dataset(frame, y, categorical_feature=categorical), 5)
    assert np.flatnonzero(booster.feature_importance()).tolist() == used
    return booster, frame


def packed(booster, folder, listed=None):
    booster.save_model(folder / "model.txt")
    if listed is None:
        return pack(folder / "model.txt", name="m", out=folder)
    file = folder / "features.yaml"
    file.write_text(yaml.safe_dump({"features": {n: {"categories": v} for n, v in listed.items()}}))
    return pack(folder / "model.txt", name="m", out=folder, features=file)


def with_unseen_values(frame):
    """Each tenth row has a category that was not there in training; there are no third booleans."""
    asked = frame.copy()
    for name, column in frame.items():
        if column.dtype == "category" and column.cat.categories.dtype != bool:
            known = column.cat.categories.tolist()
            other = "zz" if isinstance(known[0], str) else len(known) + 20
            asked[name] = column.cat.set_categories([*known, other], ordered=column.cat.ordered)
            asked.loc[::10, name] = other
    return asked


def scores_as_in_lightgbm(path, booster, frame, as_strings=()):
    """Whether plain values (not pandas categories) have the scores of LightGBM, unseen ones included."""
    asked = with_unseen_values(frame)
    plain = pa.table({
        name: [str(value) for value in column] if name in as_strings else column.tolist()
        for name, column in asked.items()
    })  # fmt: skip
    scores = Scorer.load(path).score(plain).column("score").to_numpy()
    return np.array_equal(scores, booster.predict(asked, num_threads=1))


EXACT = {
    "ordered ones alone": ({"delay": DELAYS, "month": categories(MONTHS, True)}, "auto"),
    "ordered and unordered ones": (
        {"carrier": categories(CARRIERS), "month": categories(MONTHS, True, seed=1), "hour": numbers(9)},
        "auto",
    ),
    "integers with the range of codes of a map that cannot be theirs": (
        {"bags": numbers(3), "carrier": categories(CARRIERS), "month": categories(MONTHS, seed=1)}, "auto",
    ),
    "shares from zero to one": (
        {"month": categories(MONTHS), "share": np.r_[0, 1, np.random.default_rng(0).random(N - 2)]}, "auto",
    ),
    "booleans beside flags": ({"flag": numbers(2), "night": categories([False, True])}, "auto"),
    "a list that leaves out the ordered ones": (
        {"month": categories(MONTHS, True), "door": numbers(8)}, ["door"],
    ),
    "a list that leaves out unordered ones": (
        {"carrier": categories(CARRIERS), "month": categories(MONTHS, seed=1), "door": numbers(8)},
        ["carrier", "door"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "categorical"), EXACT.values(), ids=EXACT)
def test_maps_that_can_be_given_out_in_one_way_are(columns, categorical, tmp_path):
    booster, frame = trained(columns, categorical)
    assert scores_as_in_lightgbm(packed(booster, tmp_path), booster, frame)


DOUBTFUL = {
    "a listed door of three and a month that is not": (
        {"month": categories(MONTHS, True), "door": numbers(3)}, ["door"],
    ),
    "a listed door of three and an unordered month": (
        {"month": categories(MONTHS), "door": numbers(3)}, ["door"],
    ),
    "codes that were not all there in training": (
        {"month": categories([*MONTHS, 20], True)[numbers(3)], "door": numbers(3)}, ["door"],
    ),
    "codes from one on": (
        {"month": categories(MONTHS, True), "bags": numbers(3, 1), "door": numbers(3)}, ["door"],
    ),
    "the rule is true": ({"month": categories(MONTHS), "flag": numbers(2)}, "auto"),
    "two listed ones, one of them with a map": (
        {"month": categories(MONTHS), "belt": categories([2, 3]), "door": numbers(2)}, ["month", "door"],
    ),
    "integers that are their own codes, but for unseen ones": (
        {"door": numbers(3), "month": categories([0, 1, 2], True)}, ["door"],
    ),
    "two ordered ones for one map's place": (
        {"flag": numbers(2), "size": categories(["S", "M", "L"], True), "bags": numbers(3)}, "auto",
    ),
    "fractions": ({"size": categories(SIZES, True), "bags": numbers(3)}, "auto"),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "categorical"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_maps_that_may_be_others_are_refused_by_name_until_a_features_file_tells(
    columns, categorical, tmp_path
):
    booster, frame = trained(columns, categorical)
    listed = {
        name: column.cat.categories.tolist() for name, column in frame.items() if column.dtype == "category"
    }
    listed |= {name: [str(value) for value in SIZES] for name in listed if listed[name] == SIZES}
    with pytest.raises(UnsupportedModel, match="list the categories of those among them") as refused:
        packed(booster, tmp_path)
    assert any(f"'{name}'" in str(refused.value) for name in listed)
    fractions = [name for name in listed if listed[name] == [str(value) for value in SIZES]]
    assert scores_as_in_lightgbm(packed(booster, tmp_path, listed), booster, frame, as_strings=fractions)


def test_a_features_file_that_tells_too_little_is_told_what_lacks(tmp_path):
    columns = {
        "month": categories(MONTHS, True),
        "hour": numbers(9),
        "belt": categories([2, 3], True, seed=1),
    }
    booster, frame = trained({**columns, "flag": numbers(2)})
    with pytest.raises(UnsupportedModel, match="'belt', 'flag' may have one or not; list the categories"):
        packed(booster, tmp_path, {"month": MONTHS})
    path = packed(booster, tmp_path, {"month": MONTHS, "belt": [2, 3]})
    assert scores_as_in_lightgbm(path, booster, frame)


def test_a_constant_category_may_have_the_map_of_listed_integers(tmp_path):
    """No tree knows the constant one; but if the map is its, the other one's integers are their own codes."""
    kind = pd.Categorical([5] * N, MONTHS)
    booster, frame = trained({"door": numbers(3), "kind": kind}, ["door"], unused=["kind"])
    with pytest.raises(UnsupportedModel, match="'door', 'kind' may have one or not"):
        packed(booster, tmp_path)
    assert scores_as_in_lightgbm(packed(booster, tmp_path, {"kind": MONTHS}), booster, frame)


def test_doubts_about_features_that_no_tree_asks_for_are_none(tmp_path):
    own = {"kind": categories([0, 1, 2]), "constant": np.zeros(N), "bags": numbers(3)}
    booster, frame = trained(own, unused=["constant", "bags"])
    assert scores_as_in_lightgbm(packed(booster, tmp_path), booster, frame)


def test_whether_a_feature_that_no_tree_asks_for_has_strings_is_not_guessed(tmp_path):
    columns = {"flag": numbers(2), "size": categories(CARRIERS, True), "delay": DELAYS}
    booster, frame = trained(columns, unused=["flag", "size"])
    with pytest.raises(UnsupportedModel, match="'flag', 'size' may have one or not"):
        packed(booster, tmp_path)
    assert scores_as_in_lightgbm(packed(booster, tmp_path, {"size": CARRIERS}), booster, frame)


def test_the_rule_holds_for_strings_and_data_of_another_kind_are_refused(tmp_path):
    booster, frame = trained({"carrier": categories(CARRIERS), "flag": numbers(2)})
    assert scores_as_in_lightgbm(packed(booster, tmp_path), booster, frame)

    (other := tmp_path / "other").mkdir()
    booster, frame = trained({"carrier": categories(CARRIERS), "door": numbers(2)}, ["door"])
    with pytest.raises(InvalidTable, match="column 'carrier': expected numbers"):
        scores_as_in_lightgbm(packed(booster, other), booster, frame)
    assert scores_as_in_lightgbm(packed(booster, other, {"carrier": CARRIERS}), booster, frame)


def test_bins_that_someone_chose_say_nothing_about_values(tmp_path):
    (tmp_path / "bins.json").write_text('[{"feature": 0, "bin_upper_bound": [0.3, 1.3]}]')
    columns = {"month": categories(MONTHS, True), "delay": DELAYS}
    booster, frame = trained(columns, forcedbins_filename=str(tmp_path / "bins.json"))
    assert "0.3" in booster.model_to_string().partition("threshold=")[2]
    assert scores_as_in_lightgbm(packed(booster, tmp_path), booster, frame)


def test_more_features_that_list_the_same_categories_than_maps_leave_no_doubt_about_themselves(tmp_path):
    booster, frame = trained({"door": numbers(3), "month": categories([0, 1, 2], True)}, ["door"])
    path = packed(booster, tmp_path, {"door": [0, 1, 2], "month": [0, 1, 2]})
    assert scores_as_in_lightgbm(path, booster, frame)


def test_maps_that_fit_no_feature_are_a_damaged_model():
    with pytest.raises(InvalidModel, match="1 category maps that fit no features"):
        owners([["a", "b"]], [Column("door", True, highest=2, known=32)])


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_believed_is_the_only_way_that_is_not_refused_by_its_data(seed):
    """Against a list of all ways: integers for numbers would be taken in silence, strings would not."""
    random = np.random.default_rng(seed)
    maps = [
        list("abcd")[:n] if random.random() < 0.4 else [*range(3, 3 + n)] for n in random.integers(2, 5, 2)
    ]
    columns = [
        Column(str(number), bool(random.random() < 0.5), float(random.integers(0, 4)), np.inf)
        for number in range(4)
    ]

    def may_be_codes(column, values):
        is_number = not column.is_categorical and column.highest >= 0
        return column.highest < len(values) <= (2 * (column.highest + 1) if is_number else len(values))

    ways = [
        dict(zip(features, maps, strict=True))
        for features in itertools.combinations(range(4), 2)
        if all(may_be_codes(columns[f], values) for f, values in zip(features, maps, strict=True))
    ]
    likely = [way for way in ways if all(n in way for n in range(4) if columns[n].is_categorical)] or ways

    def is_silent(true, believed):
        return all(
            isinstance(true.get(n, [0])[0], str) == isinstance(believed.get(n, [0])[0], str) for n in range(4)
        )

    def believed():
        first = likely[0]
        sound = all(way == first for way in likely)
        return first if sound and all(way == first or not is_silent(way, first) for way in ways) else None

    try:
        found = owners(maps, columns)
    except (InvalidModel, UnsupportedModel):
        found = None
    assert found == (believed() if ways else None)
