"""What stands in a job's way at its output."""

import os
import shutil
from pathlib import Path

import pytest

from engine.batch.job import dry_run, score_files
from engine.config import Batch
from engine.errors import InvalidConfig, OutputExists, StorageFailed
from tests.engine.batch.conftest import begin, hidden, read, rows, write

FIRST = Batch(keep=("id",), unit_rows=100)
APPEND = Batch(keep=("id",), unit_rows=100, mode="append")
OVERWRITE = Batch(keep=("id",), unit_rows=100, mode="overwrite")


def test_overwriting_appended_output_leaves_one_jobs_rows(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 100))
    write(data / "b.parquet", rows(100, 50))
    first, second = str(data / "a.parquet"), str(data / "b.parquet")
    score_files(bundle, [first], str(tmp_path / "out"), settings=FIRST)
    score_files(bundle, [second], str(tmp_path / "out"), settings=APPEND)
    for attached in (False, True):
        result = score_files(bundle, [first], str(tmp_path / "out"), settings=OVERWRITE)
        assert result.attached is attached
        assert read(tmp_path / "out")["id"].to_pylist() == list(range(100))
    assert sorted(os.listdir(tmp_path)) == ["data", "out"]


@pytest.mark.parametrize("call", [score_files, dry_run])
def test_a_file_that_no_job_wrote_is_in_the_way(
    bundle: str, data: Path, tmp_path: Path, call: object
) -> None:
    write(data / "a.parquet", rows(0, 10))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=FIRST)
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(OutputExists, match=r"notes\.txt is of no job"):
        call(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(mode="overwrite"))  # type: ignore[operator]


def test_input_is_not_appended_twice(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 100))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=APPEND)
    write(data / "b.parquet", rows(100, 50))
    with pytest.raises(OutputExists, match=r"1 of 2 input files \(such as .*a.parquet\) were scored"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=APPEND)
    score_files(bundle, [str(data / "b.parquet")], str(tmp_path / "out"), settings=APPEND)
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(150))


def test_the_same_files_may_be_appended_under_another_condition(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 100))
    for where in ("id < 40", "id >= 40"):
        settings = Batch(keep=("id",), mode="append", where=where)
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(100))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Batch(keep=("amount",), mode="append"), r"columns id \(int64\), score .* this job's are amount"),
        (
            Batch(keep=("id",), partition_by=("carrier",), mode="append"),
            "partitioned by nothing, this job by carr",
        ),
    ],
)
@pytest.mark.parametrize("call", [score_files, dry_run])
def test_rows_of_other_columns_are_not_appended(
    bundle: str, data: Path, tmp_path: Path, settings: Batch, message: str, call: object
) -> None:
    write(data / "a.parquet", rows(0, 100))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=FIRST)
    with pytest.raises(OutputExists, match=message):
        call(bundle, [str(data)], str(tmp_path / "out"), settings=settings)  # type: ignore[operator]


@pytest.mark.parametrize("call", [score_files, dry_run])
@pytest.mark.parametrize("location", ["data", "data/**/*.parquet", "data/**", "link"])
def test_an_output_inside_its_input_is_refused(
    bundle: str, data: Path, tmp_path: Path, call: object, location: str
) -> None:
    write(data / "a.parquet", rows(0, 10))
    (tmp_path / "link").symlink_to(data)
    with pytest.raises(InvalidConfig, match="lies inside the input"):
        call(bundle, [str(tmp_path / location)], str(data / "scores"), settings=FIRST)  # type: ignore[operator]
    assert os.listdir(data) == ["a.parquet"]


def test_an_output_that_a_link_in_its_input_leads_to_is_refused(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 10))
    everything = Batch(keep=("id", "amount", "count", "carrier"), mode="overwrite")
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=everything)
    (data / "link").symlink_to(tmp_path / "out")
    with pytest.raises(InvalidConfig, match=r"lies inside the input .*link"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=everything)


@pytest.mark.parametrize(("location", "output"), [("data/*.parquet", "data/out"), ("data", "data/_out")])
def test_an_output_that_the_input_does_not_name_may_lie_within(
    bundle: str, data: Path, tmp_path: Path, location: str, output: str
) -> None:
    write(data / "a.parquet", rows(0, 10))
    score_files(bundle, [str(tmp_path / location)], str(tmp_path / output), settings=FIRST)
    assert read(tmp_path / output)["id"].to_pylist() == list(range(10))


def test_what_a_driver_left_that_was_killed_after_publishing_is_in_nobodys_way(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 100))
    plan = begin(bundle, data, tmp_path / "out", FIRST, n_units=1)
    left = tmp_path / "left"
    shutil.copytree(hidden(tmp_path / "out") / plan.job, left)
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=FIRST)
    shutil.copytree(left, hidden(tmp_path / "out") / plan.job)
    shutil.rmtree(left)
    other = Batch(keep=("id", "amount"), mode="overwrite")
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=other)
    assert read(tmp_path / "out").column_names == ["id", "amount", "score"]
    assert sorted(os.listdir(tmp_path)) == ["data", "out"]


def test_nothing_is_appended_to_what_cannot_be_read(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 100))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=FIRST)
    write(data / "b.parquet", rows(100, 10))
    next((tmp_path / "out").glob("*.parquet")).unlink()
    with pytest.raises(StorageFailed, match=r"cannot append: .* `tandem verify` tells"):
        score_files(bundle, [str(data / "b.parquet")], str(tmp_path / "out"), settings=APPEND)
