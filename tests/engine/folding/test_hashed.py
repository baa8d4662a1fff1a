"""Hashed strings, declared in a features file: the same bucket at every door, for any string there is."""

from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.utils import murmurhash3_32

import engine
from engine import Scorer
from engine.errors import InvalidConfig

TAILS = [f"N{number}XY" for number in range(300)]


def buckets(words: list[str | None], n_buckets: int = 32) -> np.ndarray:
    return np.array(
        [np.nan if word is None else abs(murmurhash3_32(word, seed=0)) % n_buckets for word in words]
    )


def table(seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    words = [None if random.random() < 0.1 else str(random.choice(TAILS)) for _ in range(500)]
    return pa.table({"tail": pa.array(words, pa.string()), "delay": random.normal(size=500)})


def matrix(rows: pa.Table) -> np.ndarray:
    return np.column_stack([buckets(rows["tail"].to_pylist()), rows["delay"].to_numpy()])


@pytest.fixture(scope="module")
def booster() -> lightgbm.Booster:
    X = matrix(table(0))
    y = np.nan_to_num(X[:, 0]) % 5 + X[:, 1]
    data = lightgbm.Dataset(X, y, feature_name=["bucket", "delay"])
    return lightgbm.train({"verbose": -1, "num_threads": 1}, data, 20)


def packed(model: object, folder: Path, text: str) -> Scorer:
    (folder / "features.yaml").write_text(text)
    return Scorer.load(engine.pack(model, name="hashed", out=folder, features=folder / "features.yaml"))


def test_any_string_has_the_bucket_it_was_trained_with_at_every_door(
    booster: lightgbm.Booster, tmp_path: Path
) -> None:
    scorer = packed(booster, tmp_path, "transforms: {bucket: {from: tail, hash: {buckets: 32}}}")
    assert scorer.schema.names == ("tail", "delay")
    rows = table(1).slice(3)
    expected = booster.predict(matrix(rows))
    assert (scorer.score(rows).column(0).to_numpy() == expected).all()
    coded = rows.set_column(0, "tail", rows["tail"].dictionary_encode())
    assert (scorer.score(coded).column(0).to_numpy() == expected).all()
    wide = rows.set_column(0, "tail", rows["tail"].cast(pa.large_string()))
    assert (scorer.score(wide).column(0).to_numpy() == expected).all()
    tensors = {name: rows[name].to_pylist() for name in scorer.schema.names}
    for X, bad in (scorer.preparer.rows(rows.to_pylist()), scorer.preparer.tensors(tensors)):
        assert not bad
        assert (scorer.score_rows(X)[:, 0] == expected).all()


def test_what_is_no_string_makes_a_row_bad_as_with_any_category(
    booster: lightgbm.Booster, tmp_path: Path
) -> None:
    scorer = packed(booster, tmp_path, "transforms: {bucket: {from: tail, hash: {buckets: 32}}}")
    _, bad = scorer.preparer.rows([{"tail": 7, "delay": 0.5}, {"tail": "N1", "delay": 0.5}])
    assert bad == {0: "feature 'tail': expected a string, got 7"}


def test_a_linear_model_weighs_the_number_of_the_bucket(tmp_path: Path) -> None:
    rows = table(2).drop_null()
    X = matrix(rows)
    model = LinearRegression().fit(X, X[:, 0] * 2 + X[:, 1])
    scorer = packed(model, tmp_path, "transforms: {x0: {from: tail, hash: {buckets: 32}}, x1: {from: delay}}")
    np.testing.assert_allclose(scorer.score(rows).column(0).to_numpy(), model.predict(X), rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("transforms: {bucket: {from: a, hash: {buckets: 0}}}", ">= 1"),
        (
            "transforms: {bucket: {from: a, hash: {buckets: 8}}, delay: {from: a, equals: x}}",
            "is hashed in one",
        ),
        ("transforms: {bucket: {from: a, equals: x, hash: {buckets: 8}}}", "expected one of steps, map"),
        (
            "{features: {a: {categories: [x]}}, transforms: {bucket: {from: a, hash: {buckets: 8}}}}",
            "is hashed, so it has no categories",
        ),
    ],
)
def test_a_wrong_hash_is_refused_with_the_place(
    booster: lightgbm.Booster, tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        packed(booster, tmp_path, text)
