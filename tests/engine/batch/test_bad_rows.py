from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.batch.job import score_files
from engine.batch.verification import Verification, verify
from engine.config import Batch
from engine.errors import InvalidConfig, InvalidTable, JobChanged
from tests.engine.batch.conftest import expected, hidden, read, rows, write


def spoilt() -> pa.Table:
    """Two hundred rows; 5 lacks its amount, 150 has a carrier that the model does not know."""
    table = rows(0, 200)
    amounts, carriers = table["amount"].to_pylist(), table["carrier"].to_pylist()
    amounts[5], carriers[150] = None, "ZZ"
    table = table.set_column(1, "amount", pa.array(amounts))
    return table.set_column(3, "carrier", pa.array(carriers))


GOOD = [i for i in range(200) if i not in (5, 150)]


def test_fail_names_the_row_and_the_ways_out_and_publishes_nothing(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", spoilt())
    with pytest.raises(
        InvalidTable, match=r"amount.* - at row 5 of .*a.parquet; --on-bad-row null .* quarantine"
    ):
        score_files(bundle, [str(data)], str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_null_keeps_the_row_without_a_score(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", spoilt())
    settings = Batch(keep=("id",), on_bad_row="null")
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    scores = expected(range(200))
    scores[5] = scores[150] = None  # type: ignore[call-overload]
    assert read(tmp_path / "out")["score"].to_pylist() == scores
    assert (result.record.rows_out, result.record.rows_bad) == (200, 2)


@pytest.mark.parametrize("where", ["", "id >= 3"])
def test_quarantine_keeps_the_original_values_and_the_reason(
    bundle: str, data: Path, tmp_path: Path, where: str
) -> None:
    write(data / "a.parquet", spoilt())
    settings = Batch(keep=("id",), on_bad_row="quarantine", where=where)
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    good = [i for i in GOOD if not where or i >= 3]
    assert read(tmp_path / "out").to_pydict() == {"id": good, "score": expected(good)}
    aside = pq.read_table(tmp_path / "out" / "_quarantine").to_pylist()
    assert [(row["id"], row["amount"], row["carrier"], row["_row"]) for row in aside] == [
        (5, None, "UA", 5),
        (150, 75.0, "ZZ", 150),
    ]
    assert all(row["_file"] == str(data / "a.parquet") for row in aside)
    assert "amount" in aside[0]["_reason"]
    assert "'ZZ'" in aside[1]["_reason"]
    assert sum(result.record.reasons.values()) == result.record.rows_bad == 2


def test_too_many_bad_rows_fail_the_job_with_the_reasons_counted(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", spoilt())
    settings = Batch(on_bad_row="null", max_bad_fraction=0.005)
    with pytest.raises(InvalidTable, match=r"at most 0.50% bad rows, got 2 of 200 \(1 × .*amount"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    assert not (tmp_path / "out").exists()
    assert hidden(tmp_path / "out").exists()


def test_bad_rows_within_the_fraction_do_not_fail_the_job(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", spoilt())
    settings = Batch(on_bad_row="null", max_bad_fraction=0.01)
    assert score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings).record.rows_bad == 2


def test_a_job_that_failed_on_a_bad_row_goes_on_when_it_is_told_to_bear_with_such_rows(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(200, 300))
    write(data / "b.parquet", spoilt())
    failing = Batch(keep=("id",), unit_rows=100)
    with pytest.raises(InvalidTable, match="--on-bad-row null"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=failing)
    strict = msgspec.structs.replace(failing, on_bad_row="null", max_bad_fraction=0.001)
    with pytest.raises(InvalidTable, match="raise --max-bad-fraction"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=strict)
    lenient = msgspec.structs.replace(strict, max_bad_fraction=0.01)
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=lenient)
    assert (result.resumed, result.record.rows_bad) == (5, 2)
    scores = expected(range(500))
    scores[5] = scores[150] = None
    assert read(tmp_path / "out").to_pydict() == {"id": list(range(500)), "score": scores}


def test_bad_rows_that_were_written_are_not_set_aside_later(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", spoilt())
    settings = Batch(on_bad_row="null", max_bad_fraction=0.001)
    with pytest.raises(InvalidTable, match="expected at most"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    with pytest.raises(JobChanged, match="'on_bad_row' was 'null' and is 'quarantine'"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(on_bad_row="quarantine"))


@pytest.mark.parametrize(
    ("on_bad_row", "told"),
    [
        ("null", "200 rows scored into {out}; 2 of them are bad and have no score"),
        ("quarantine", "198 rows scored into {out}; 2 bad rows are set aside in {out}/_quarantine"),
    ],
)
def test_a_job_tells_of_its_bad_rows(
    bundle: str, data: Path, tmp_path: Path, on_bad_row: Any, told: str
) -> None:
    write(data / "a.parquet", spoilt())
    out = str(tmp_path / "out")
    result = score_files(bundle, [str(data)], out, settings=Batch(on_bad_row=on_bad_row))
    assert result.summary == told.format(out=out)


@pytest.mark.parametrize("runner", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_rows_set_aside_keep_the_types_of_their_files(
    request: pytest.FixtureRequest, bundle: str, data: Path, tmp_path: Path, runner: Literal["local", "ray"]
) -> None:
    if runner == "ray":
        request.getfixturevalue("ray_cluster")
    narrow = rows(0, 3).set_column(1, "amount", pa.array([None, 4.1, 4.1], pa.float32()))
    wide = rows(3, 3).set_column(1, "amount", pa.array([4.1, None, 4.1], pa.float64()))
    wide = wide.set_column(2, "count", pa.array([2**40, 1, 1], pa.int64()))
    write(data / "a.parquet", narrow)
    write(data / "b.parquet", wide)
    settings = Batch(runner=runner, keep=("id",), on_bad_row="quarantine")
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    assert (result.record.rows_out, result.record.rows_bad, result.record.n_units) == (3, 3, 1)
    first, second = sorted((tmp_path / "out" / "_quarantine").iterdir())
    assert pq.ParquetFile(first).read().select(["id", "amount", "count"]).to_pylist() == [
        {"id": 0, "amount": None, "count": 0}
    ]
    assert pq.ParquetFile(second).read().select(["id", "amount", "count"]).to_pylist() == [
        {"id": 3, "amount": 4.1, "count": 2**40},
        {"id": 4, "amount": None, "count": 1},
    ]
    assert verify(str(tmp_path / "out"), n_rows=6) == Verification(6)


@pytest.mark.parametrize("name", ["_row", "_file", "_reason"])
def test_a_column_called_like_those_of_rows_set_aside_is_refused(
    bundle: str, data: Path, tmp_path: Path, name: str
) -> None:
    write(data / "a.parquet", rows(0, 10).append_column(name, pa.array(range(10))))
    settings = Batch(keep=("id", name), on_bad_row="quarantine")
    with pytest.raises(InvalidConfig, match=f"'{name}' bears a name that rows set aside have"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
