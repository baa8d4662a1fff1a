"""A model file with some bytes changed is refused in a sentence, or packed; nothing else ever happens."""

import catboost
import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidConfig, InvalidModel
from engine.packing import pack

X = np.random.default_rng(0).normal(size=(200, 3))
Y = X[:, 0] + (X[:, 1] > 0)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A small model in every format that Python code reads."""
    folder = tmp_path_factory.mktemp("sources")
    booster = lgb.train({"verbose": -1, "num_leaves": 5}, lgb.Dataset(X, Y, categorical_feature=[]), 2)
    symmetric = catboost.CatBoostRegressor(iterations=2, depth=2, verbose=0, allow_writing_files=False).fit(
        X, Y
    )
    symmetric.save_model(str(folder / "model.json"), format="json")
    boosted = xgb.train({"max_depth": 2}, xgb.DMatrix(X, Y), 2)
    return {
        "lightgbm": booster.model_to_string().encode(),
        "catboost": (folder / "model.json").read_bytes(),
        "xgboost json": bytes(boosted.save_raw(raw_format="json")),
        "xgboost ubj": bytes(boosted.save_raw(raw_format="ubj")),
    }


@pytest.mark.parametrize("kind", ["lightgbm", "catboost", "xgboost json", "xgboost ubj"])
@settings(max_examples=60, deadline=None)
@given(
    place=st.floats(0, 1, exclude_max=True), taken=st.sampled_from([0, 1, 2, 40]), put=st.binary(max_size=4)
)
def test_changed_bytes_are_refused_in_a_sentence_or_harmless(
    sources, tmp_path_factory, kind, place, taken, put
):
    source = sources[kind]
    start = int(place * len(source))
    folder = tmp_path_factory.getbasetemp() / "damage"
    folder.mkdir(exist_ok=True)
    (folder / "model").write_bytes(source[:start] + put + source[start + taken :])
    try:
        assert (pack(folder / "model", name="m", out=folder / "bundles") / "bundle.json").is_file()
    except (InvalidModel, InvalidConfig) as error:  # the latter of a name that no table can have
        assert "\n" not in str(error) or "treelite" in str(error)  # noqa: PT017  which of both is the draw's
