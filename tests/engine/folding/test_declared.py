from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import pyarrow as pa
import pytest

import engine
from engine import Scorer
from engine.errors import InvalidConfig, UnsupportedModel
from engine.folding.declared import Step, Transform

FEATURES = """
features:
  amount: {required: false}
transforms:
  log_amount:
    from: amount
    steps: [{impute: 1.0}, {clip: [0, 1.0e+4]}, {log1p: true}, {standardise: {mean: 2.0, std: 1.5}}]
  bucket: {from: amount, steps: [{bucketise: [1, 10, 100]}]}
  falling: {from: balance, steps: [{multiply: -3.0}, {add: 0.1}]}
  risk: {from: origin, map: {values: {EWR: 0.3, JFK: 0.1, LGA: 0.2}, unseen: 0.25, missing: 0.9}}
  is_lga: {from: origin, equals: LGA}
"""
RISK = {"EWR": 0.3, "JFK": 0.1, "LGA": 0.2, None: 0.9}


def by_hand(amount: np.ndarray, balance: np.ndarray, origin: list[str | None]) -> np.ndarray:
    filled = np.where(np.isnan(amount), 1.0, amount)
    return np.column_stack(
        [
            (np.log1p(np.clip(filled, 0, 1e4)) - 2.0) / 1.5,
            np.where(np.isnan(amount), np.nan, np.searchsorted([1, 10, 100], amount, side="right")),
            balance * -3.0 + 0.1,
            [RISK.get(value, 0.25) for value in origin],
            [float(value == "LGA") for value in origin],
        ]
    )


def rows(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str | None]]:
    random = np.random.default_rng(seed)
    amount = random.lognormal(2, 2, n_rows)
    amount[::9] = np.nan
    origin = random.choice(np.array(["EWR", "JFK", "LGA", "TEB", None], dtype=object), n_rows).tolist()
    return amount, random.normal(size=n_rows), origin


@pytest.fixture(scope="module")
def booster() -> lightgbm.Booster:
    X = by_hand(*rows(3000, 0))
    y = np.nan_to_num(X).sum(axis=1) + np.random.default_rng(1).normal(size=len(X))
    names = ["log_amount", "bucket", "falling", "risk", "is_lga"]
    return lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(X, y, feature_name=names), 40)


def packed(booster: lightgbm.Booster, folder: Path, text: str) -> Scorer:
    features = folder / "features.yaml"
    features.write_text(text)
    return Scorer.load(engine.pack(booster, name="declared", out=folder, features=features))


def test_declared_transforms_have_the_bits_of_transforming_first(
    booster: lightgbm.Booster, tmp_path: Path
) -> None:
    scorer = packed(booster, tmp_path, FEATURES)
    assert scorer.schema.names == ("amount", "balance", "origin")
    amount, balance, origin = rows(2000, 2)
    got = (
        scorer.score(pa.table({"amount": amount, "balance": balance, "origin": origin})).column(0).to_numpy()
    )
    assert (got == booster.predict(by_hand(amount, balance, origin))).all()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("transforms: {nobody: {from: amount}}", "transforms 'nobody', which the model does not have"),
        ("transforms: {bucket: {from: a, equals: x}, falling: {from: a}}", "as a number and as a category"),
        ("transforms: {bucket: {from: a, steps: [{}]}}", "expected exactly one of impute, clip"),
        (
            "transforms: {bucket: {from: a, equals: x, steps: [{add: 1}]}}",
            "expected one of steps, map, equals and hash",
        ),
    ],
)
def test_a_wrong_declaration_is_refused_with_the_place(
    booster: lightgbm.Booster, tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        packed(booster, tmp_path, text)


def test_a_chain_that_turns_around_is_refused(booster: lightgbm.Booster, tmp_path: Path) -> None:
    text = "transforms: {bucket: {from: a, steps: [{log1p: true}, {impute: 5}]}}"
    with pytest.raises(UnsupportedModel, match="feature 'a' neither rises nor falls"):
        packed(booster, tmp_path, text)


def test_a_step_is_one_key() -> None:
    assert msgspec.json.decode('{"clip":[0,1]}', type=Step) == Step(clip=(0.0, 1.0))
    assert msgspec.json.decode('{"from":"a"}', type=Transform) == Transform("a")
