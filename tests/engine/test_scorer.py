"""The scorer's promise: the libraries' own scores, and the same bits however a row comes to be scored."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from engine.bundle import read_bundle
from engine.demo.flights import CATEGORIES, FEATURES, LABEL
from engine.errors import BadRow, InvalidBundle, InvalidConfig, InvalidTable
from engine.packing import pack
from engine.scorer import BACKENDS, Scorer

NUMERIC = ["month", "departs_minute", "distance", "temp", "wind_speed", "pressure", "visib"]


def scores_of(scorer: Scorer, table: pl.DataFrame | pa.Table) -> np.ndarray:
    return np.stack([column.to_numpy() for column in scorer.score(table).columns], axis=1)


def within_ulps(found: np.ndarray, expected: np.ndarray, ulps: int) -> bool:
    return bool((np.abs(found - expected) <= ulps * np.spacing(np.abs(expected))).all())


def test_scores_are_lightgbms_on_real_flights(
    late: Scorer, late_booster: lightgbm.Booster, some_flights: pl.DataFrame
) -> None:
    frame = some_flights.select(FEATURES).to_pandas().astype(dict.fromkeys(CATEGORIES, "category"))
    expected = late_booster.predict(frame)
    found = scores_of(late, some_flights)[:, 0]
    assert within_ulps(found, np.asarray(expected), 2)


def test_an_identity_link_gives_lightgbms_very_bits(some_flights: pl.DataFrame, tmp_path: Path) -> None:
    X = some_flights.select(NUMERIC).to_pandas()
    data = lightgbm.Dataset(X, some_flights["departs_minute"].to_numpy())
    booster = lightgbm.train(
        {"objective": "regression", "verbosity": -1, "num_threads": 1}, data, num_boost_round=20
    )
    scorer = Scorer.load(pack(booster, name="minute", out=tmp_path))
    assert np.array_equal(scores_of(scorer, some_flights)[:, 0], booster.predict(X))


def test_scores_are_xgboosts_on_real_flights(some_flights: pl.DataFrame, tmp_path: Path) -> None:
    X = some_flights.select(NUMERIC).to_pandas()
    model = xgboost.XGBClassifier(n_estimators=20, max_depth=6, n_jobs=1).fit(
        X, some_flights[LABEL].to_numpy()
    )
    scorer = Scorer.load(pack(model, name="late", out=tmp_path))
    found = scores_of(scorer, some_flights)[:, 0]
    assert found.dtype == np.float32
    assert within_ulps(found, model.predict_proba(X)[:, 1], 2)


def test_scores_are_a_random_forests_on_real_flights(some_flights: pl.DataFrame, tmp_path: Path) -> None:
    X = some_flights.select(NUMERIC).to_pandas()
    model = RandomForestClassifier(10, max_depth=8, random_state=0).fit(X, some_flights["origin"].to_numpy())
    scorer = Scorer.load(pack(model, name="origin", out=tmp_path))
    table = scorer.score(some_flights)
    assert table.column_names == [f"score_{origin}" for origin in ("EWR", "JFK", "LGA")]
    assert np.array_equal(scores_of(scorer, some_flights), model.predict_proba(X))


def test_scores_are_a_logistic_regressions_on_real_flights(
    some_flights: pl.DataFrame, tmp_path: Path
) -> None:
    complete = some_flights.drop_nulls(NUMERIC)
    X = complete.select(NUMERIC).to_numpy().astype(np.float64)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    model = LogisticRegression().fit(X, complete[LABEL].to_numpy())
    scorer = Scorer.load(pack(model, name="late", out=tmp_path))
    prepared, bad = scorer.preparer.matrix(X)
    assert not bad
    np.testing.assert_allclose(
        scorer.score_rows(prepared)[:, 0], model.predict_proba(X)[:, 1], rtol=1e-14, atol=0
    )


def test_every_door_gives_the_same_bits(late: Scorer, some_flights: pl.DataFrame) -> None:
    frame = some_flights.head(500)
    table = frame.to_arrow()
    expected = scores_of(late, table)
    rows = table.to_pylist()
    typed = msgspec.json.decode(msgspec.json.encode(rows), type=list[late.preparer.row_type])
    tensors = {name: frame[name].to_list() for name in FEATURES}
    encoded = pa.table({name: table.column(name).dictionary_encode() for name in FEATURES})
    assert np.array_equal(scores_of(late, frame), expected)
    assert np.array_equal(scores_of(late, encoded), expected)
    for X, bad in (
        late.preparer.rows(rows),
        late.preparer.typed_rows(typed),
        late.preparer.tensors(tensors),
    ):
        assert not bad
        assert np.array_equal(late.score_rows(X), expected)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 3000), max_size=12))
def test_the_batch_a_row_is_in_does_not_change_its_score(
    late: Scorer, some_flights: pl.DataFrame, cuts: list[int]
) -> None:
    X, _ = late.preparer.rows(some_flights.head(3000).to_dicts())
    pieces = [X[a:b] for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), 3000], strict=True)]
    assert np.array_equal(np.concatenate([late.score_rows(piece) for piece in pieces]), late.score_rows(X))


def test_a_row_alone_has_the_score_it_has_among_others(late: Scorer, some_flights: pl.DataFrame) -> None:
    table = some_flights.head(200).to_arrow()
    alone = [scores_of(late, table.slice(row, 1))[0, 0] for row in range(200)]
    assert alone == scores_of(late, table)[:, 0].tolist()


def test_threads_at_the_same_time_give_the_same_bits(late: Scorer, some_flights: pl.DataFrame) -> None:
    table = some_flights.to_arrow()
    pieces = [table.slice(start, 500) for start in range(0, 8_000, 500)]
    with ThreadPoolExecutor(4) as pool:
        scored = list(pool.map(lambda piece: scores_of(late, piece), pieces))
    assert np.array_equal(np.concatenate(scored), scores_of(late, table))


def test_a_category_never_seen_scores_as_a_missing_one(late: Scorer, some_flights: pl.DataFrame) -> None:
    row = some_flights.row(0, named=True)
    X, bad = late.preparer.rows([{**row, "carrier": "ZZ"}, {**row, "carrier": None}])
    scores = late.score_rows(X)
    assert not bad
    assert scores[0] == scores[1]


AFTER_WARM_UP = """
import sys
import polars as pl
from numba.core.dispatcher import Dispatcher
from engine.scorer import Scorer

def compiled():
    modules = [m for name, m in sys.modules.items() if name.startswith("kernels")]
    kernels = {k for m in modules for k in vars(m).values() if isinstance(k, Dispatcher)}
    return {f"{k.py_func.__name__}{s}" for k in kernels for s in k.signatures}

flights = pl.read_parquet(sys.argv[2])
scorer = Scorer.load(sys.argv[1])
scorer.warm_up()
before = compiled()
for n_rows in (1, 3, 64, 100):
    X, _ = scorer.preparer.rows(flights.head(n_rows).to_dicts())
    scorer.score_rows(X)
    X.flags.writeable = False
    scorer.score_rows(X)
strings = [name for name, kind in flights.schema.items() if kind == pl.String]
for frame in (flights, flights.head(1), flights.head(0)):
    scorer.score(frame)
    scorer.score(frame.to_arrow())
    scorer.score(frame.cast(dict.fromkeys(strings, pl.Categorical)))
print(len(before) > 0, sorted(compiled() - before))
"""


def test_nothing_is_compiled_after_the_warm_up(
    late_bundle: Path, some_flights: pl.DataFrame, tmp_path: Path
) -> None:
    some_flights.write_parquet(tmp_path / "flights.parquet")
    command = [sys.executable, "-c", AFTER_WARM_UP, str(late_bundle), str(tmp_path / "flights.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"


def test_a_bad_row_is_named_with_its_reason(late: Scorer, some_flights: pl.DataFrame) -> None:
    broken = some_flights.head(10).with_columns(month=pl.lit(300, pl.Int64))
    message = r"10 of 10 rows cannot be scored: row 0: feature 'month': 300 is out of int8 range; .*7 more"
    with pytest.raises(BadRow, match=message):
        late.score(broken)


def test_a_bad_row_scores_null_if_asked_to(late: Scorer, some_flights: pl.DataFrame) -> None:
    frame = some_flights.head(3).with_columns(month=pl.Series([1, 300, 2]))
    scores = late.score(frame, on_bad_row="null").column("score")
    kept = late.score(frame[[0, 2]]).column("score")
    assert scores.to_pylist() == [kept[0].as_py(), None, kept[1].as_py()]


def test_no_rows_score_to_no_rows(late: Scorer, some_flights: pl.DataFrame) -> None:
    scored = late.score(some_flights.head(0))
    assert scored.num_rows == 0
    assert scored.schema == pa.schema([("score", pa.float64())])


def test_a_table_without_a_feature_is_refused(late: Scorer, some_flights: pl.DataFrame) -> None:
    with pytest.raises(
        InvalidTable, match=r"expected a column 'carrier' of strings \(a category\), got none"
    ):
        late.score(some_flights.drop("carrier"))


def test_what_is_no_table_is_refused(late: Scorer) -> None:
    with pytest.raises(InvalidTable, match=r"expected an Arrow table.*got dict"):
        late.score({"carrier": ["UA"]})  # type: ignore[arg-type]


def test_outputs_that_differ_from_the_schemas_are_refused(late_bundle: Path) -> None:
    bundle = read_bundle(late_bundle)
    schema = msgspec.structs.replace(
        bundle.manifest.schema,
        output=msgspec.structs.replace(bundle.manifest.schema.output, labels=("a", "b")),
    )
    backend = Scorer.load(late_bundle)._backend
    changed = type(bundle)(
        msgspec.structs.replace(bundle.manifest, schema=schema), bundle.revision, bundle.files
    )
    with pytest.raises(InvalidBundle, match="has 1 outputs, its schema 2"):
        Scorer(changed, backend)


def test_a_forest_is_scored_without_onnx_runtime_or_ray() -> None:
    code = "import engine.scorer, sys; print({'onnxruntime', 'ray', 'polars', 'treelite'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_kind_of_bundle_has_a_backend() -> None:
    kinds = read_bundle.__globals__["Manifest"].__annotations__["kind"].__args__
    assert set(BACKENDS) == set(kinds)


def test_a_device_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(InvalidConfig, match="expected one of the devices bundle, cpu, auto, cuda, got 'gpu'"):
        Scorer.load("anywhere", device="gpu")
