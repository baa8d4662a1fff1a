"""Data with the values people know scores as the library scores it, through the one scorer."""

import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost as xgb
from sklearn.ensemble import HistGradientBoostingClassifier

from engine.errors import TandemError
from engine.packing import pack
from engine.scorer import Scorer

N = 500


@pytest.fixture(scope="module")
def flown():
    """Numbers with holes, strings with holes, whole numbers as categories; and whether it was late."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({
        "wind": np.where(random.random(N) < 0.1, np.nan, random.normal(size=N)),
        "carrier": random.choice(["UA", "AA", "B6", None], N, p=[0.4, 0.3, 0.2, 0.1]),
        "month": random.choice([1, 6, 12], N),
        "hour": random.integers(0, 24, N),
    })  # fmt: skip
    late = (
        frame["hour"] + 9 * (frame["carrier"] == "UA") + 5 * (frame["month"] == 12) + random.normal(size=N)
        > 14
    )
    return frame, late.to_numpy().astype(int)


def as_categories(frame):
    return frame.assign(
        carrier=pd.Categorical(frame["carrier"], ["AA", "B6", "UA"]),
        month=pd.Categorical(frame["month"], [1, 6, 12]),
    )


def scores(path, frame):
    return (
        Scorer.load(path).score(pa.Table.from_pandas(frame, preserve_index=False)).column("score").to_numpy()
    )


def test_lightgbm_takes_an_unseen_category_for_a_missing_one(flown, tmp_path):
    frame, late = flown
    data = lgb.Dataset(as_categories(frame), late)
    booster = lgb.train({"objective": "binary", "verbose": -1, "min_data_per_group": 5}, data, 20)
    path = pack(booster, name="late", out=tmp_path)
    asked = frame.assign(carrier=frame["carrier"].replace("B6", "ZZ"), month=frame["month"].replace(6, 7))
    unseen = asked.assign(carrier=pd.Categorical(asked["carrier"]), month=pd.Categorical(asked["month"]))

    np.testing.assert_allclose(scores(path, frame), booster.predict(as_categories(frame)), rtol=4e-16)
    np.testing.assert_allclose(scores(path, asked), booster.predict(unseen), rtol=4e-16)


def test_xgboost_refuses_an_unseen_category_and_scores_the_others(flown, tmp_path):
    frame, late = flown
    model = xgb.XGBClassifier(n_estimators=20, enable_categorical=True, max_cat_to_onehot=1)
    model.fit(as_categories(frame), late)
    path = pack(model, name="late", out=tmp_path)

    np.testing.assert_allclose(
        scores(path, frame), model.predict_proba(as_categories(frame))[:, 1], rtol=1e-6
    )
    with pytest.raises(TandemError, match="ZZ"):
        scores(path, frame.assign(carrier="ZZ"))


def test_histogram_boosting_takes_an_unseen_category_for_a_missing_one(flown, tmp_path):
    frame, late = flown
    model = HistGradientBoostingClassifier(max_iter=20, categorical_features="from_dtype")
    model.fit(as_categories(frame), late)
    path = pack(model, name="late", out=tmp_path)
    asked = frame.assign(carrier=frame["carrier"].replace("B6", "ZZ"))
    unseen = as_categories(frame).assign(carrier=pd.Categorical(asked["carrier"], ["AA", "ZZ", "UA"]))

    np.testing.assert_allclose(
        scores(path, frame), model.predict_proba(as_categories(frame))[:, 1], rtol=4e-16
    )
    np.testing.assert_allclose(scores(path, asked), model.predict_proba(unseen)[:, 1], rtol=4e-16)
