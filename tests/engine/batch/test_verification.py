import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.batch.comparison import differing_rows
from engine.batch.job import score_files
from engine.batch.verification import Verification, verify
from engine.config import Batch
from engine.errors import InvalidConfig, JobChanged, NotFound
from tests.engine.batch.conftest import rows, write
from tests.engine.batch.test_bad_rows import spoilt


@pytest.mark.parametrize(
    "settings",
    [
        Batch(keep=("id",), unit_rows=50),
        Batch(keep=("id",), unit_rows=50, partition_by=("carrier", "count"), on_bad_row="null"),
        Batch(on_bad_row="quarantine", where="id > 3"),
    ],
)
def test_a_fresh_output_does_not_differ(bundle: str, data: Path, tmp_path: Path, settings: Batch) -> None:
    write(data / "a.parquet", rows(0, 200) if settings.on_bad_row == "fail" else spoilt())
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    found = verify(str(tmp_path / "out"), n_rows=1000)
    set_aside = result.record.rows_bad if settings.on_bad_row == "quarantine" else 0
    assert found == Verification(result.record.rows_out + set_aside)


def test_a_sample_stops_after_enough_rows(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 200))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(unit_rows=100))
    assert verify(str(tmp_path / "out"), n_rows=10).rows == 100


def test_one_changed_bit_and_a_lost_row_are_found(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 100))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch())
    path = next((tmp_path / "out").glob("*.parquet"))
    scores = pq.read_table(path)["score"].to_pylist()
    pq.write_table(pa.table({"score": [scores[0] + 1e-13, *scores[1:-1]]}), path)
    found = verify(str(tmp_path / "out"), n_rows=10)
    assert (found.differing, found.changed_files) == (2, 1)


def test_parts_that_are_lost_or_cut_short_differ_in_all_their_rows(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 300))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(unit_rows=100))
    lost, cut, _ = sorted((tmp_path / "out").glob("*.parquet"))
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-10])
    found = verify(str(tmp_path / "out"), n_rows=300)
    assert (found.rows, found.differing, found.changed_files) == (300, 200, 2)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1.5, float("nan"), None], pa.float16()),
        pa.array([[1, 2], [], None], pa.list_(pa.int8())),
        pa.array([{"a": 1}, {"a": None}, None], pa.struct({"a": pa.int8()})),
        pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int8())),
        pa.array([0, 1, None], pa.timestamp("s")),
        pa.array(["a", "", None], pa.string_view()),
        pa.nulls(3),
    ],
    ids=lambda values: str(values.type),
)
def test_kept_columns_of_every_type_are_compared(
    bundle: str, data: Path, tmp_path: Path, values: pa.Array
) -> None:
    write(data / "a.parquet", rows(0, 3).append_column("odd", values))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(keep=("odd",)))
    assert verify(str(tmp_path / "out"), n_rows=3) == Verification(3)


def test_all_jobs_of_an_output_are_compared_or_the_one_named(bundle: str, data: Path, tmp_path: Path) -> None:
    for number, job in enumerate(("first", "second")):
        write(data / f"{job}.parquet", rows(10 * number, 10))
        settings = Batch(keep=("id",), mode="append")
        score_files(bundle, [str(data / f"{job}.parquet")], str(tmp_path / "out"), settings=settings, job=job)
    assert verify(str(tmp_path / "out"), n_rows=20) == Verification(20)
    (data / "first.parquet").unlink()
    with pytest.raises(NotFound):
        verify(str(tmp_path / "out"), n_rows=20)
    assert verify(str(tmp_path / "out"), n_rows=20, job="second") == Verification(10)
    with pytest.raises(NotFound, match=r"no job third wrote at .*: first, second"):
        verify(str(tmp_path / "out"), n_rows=20, job="third")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"PAR1" + b"\xff" * 200 + path.read_bytes()[204:]),
        lambda path: path.write_bytes(b""),
        lambda path: pq.write_table(rows(0, 5), path),
    ],
    ids=["pages", "nothing", "another table"],
)
@pytest.mark.parametrize("where", ["", "_quarantine"])
def test_files_that_are_damaged_differ_and_end_in_no_traceback(
    bundle: str, data: Path, tmp_path: Path, damage: Callable[[Path], object], where: str
) -> None:
    write(data / "a.parquet", spoilt())
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(on_bad_row="quarantine"))
    damage(next((tmp_path / "out" / where).glob("*.parquet")))
    found = verify(str(tmp_path / "out"), n_rows=1000)
    assert (found.differing > 0, found.changed_files) == (True, 1)


def test_rows_in_a_directory_where_none_belong_are_too_many(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 30))
    output = tmp_path / "out"
    score_files(bundle, [str(data)], str(output), settings=Batch(keep=("id",), partition_by=("carrier",)))
    (output / "carrier=AA").rename(output / "carrier=ZZ")
    manifest = output / "_manifest.json"
    manifest.write_text(manifest.read_text().replace("carrier=AA", "carrier=ZZ"))
    assert verify(str(output), n_rows=30) == Verification(30, differing=20)


def test_changed_input_cannot_be_compared(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 100))
    score_files(bundle, [str(data)], str(tmp_path / "out"))
    write(data / "a.parquet", rows(5, 100))
    with pytest.raises(JobChanged, match="the input of job"):
        verify(str(tmp_path / "out"), n_rows=10)


def test_no_output_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        verify(str(tmp_path / "out"), n_rows=10)


def test_what_is_no_url_is_said_before_anything_is_scored(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidConfig, match=r"expected a URL such as http://127.0.0.1:8080, got 'localhost:8080'"
    ):
        verify(str(tmp_path / "out"), n_rows=10, url="localhost:8080")


def test_bits_are_compared_not_values() -> None:
    nan, null = float("nan"), None
    a = pa.table({"s": pa.array([0.0, nan, null, 1.0, null])})
    b = pa.table({"s": pa.array([-0.0, nan, null, 1.0, 2.0])})
    assert differing_rows(a, b) == 2


@pytest.fixture
def endpoint(bundle: str) -> Iterator[str]:
    """An engine that serves the model without Ray."""
    command = [sys.executable, "-m", "engine.cli", "serve", "--local"]
    command += ["--model", f"fares={bundle}", "--port", "0", "--jobs-port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()  # its address, once it is ready
    finally:
        server.terminate()
        server.communicate(timeout=30)


def test_batch_and_endpoint_answer_the_same_bits(
    bundle: str, data: Path, tmp_path: Path, endpoint: str
) -> None:
    write(data / "a.parquet", spoilt())
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(on_bad_row="null"))
    assert verify(str(tmp_path / "out"), n_rows=200, url=endpoint) == Verification(200, wire_rows=200)
