"""Row groups that cannot hold a chosen row are not read: destroyed ones do no harm, and counts are exact."""

import math
import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.batch.job import options_of, score_files
from engine.batch.output import open_output
from engine.batch.planning import make_plan
from engine.batch.records import Records
from engine.batch.verification import verify
from engine.batch.work import make_work
from engine.bundle import read_bundle
from engine.config import Batch
from engine.errors import InvalidConfig, InvalidTable
from tests.engine.batch.conftest import begin, destroy, expected, read, rows, write

GROUPS = range(5)


def table() -> pa.Table:
    """500 rows: every tenth ``x`` from 100 to 199 is NaN, every tenth ``n`` from 200 to 299 is null."""
    ids = range(500)
    x = [math.nan if i // 100 == 1 and i % 10 == 0 else float(i) for i in ids]
    n = [None if i // 100 == 2 and i % 10 == 0 else i for i in ids]
    word = ["abcde"[i // 100] * 200 for i in ids]
    return rows(0, 500).append_column("x", [x]).append_column("n", [n]).append_column("word", [word])


def groups_read(bundle: str, file: Path, where: str) -> list[int]:
    """The row groups of a file that a job reads: those that must not be destroyed."""
    return [group for group in GROUPS if not survives(bundle, file, where, group)]


def survives(bundle: str, file: Path, where: str, group: int) -> bool:
    """Whether all rows of a job can be read though one row group is destroyed."""
    copy = file.parent.with_name("destroyed") / file.name
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(file, copy)
    destroy(copy, group)
    model = read_bundle(bundle)
    plan = make_plan(model, bundle, [str(copy)], options_of(Batch(where=where))).plan
    work = make_work(
        plan, Records.of(open_output(str(file.parent / "out")).store(plan.job), plan), model.manifest.schema
    )
    try:
        for unit in plan.units:
            assert sum(piece.rows for piece, _ in work.read(unit)) == unit.rows
    except InvalidTable:
        return False
    return True


@pytest.mark.parametrize(
    ("where", "groups"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("id >= 300", [3, 4]),
        ("id == 250", [2]),
        ("not id < 300", [3, 4]),
        ("id < 100 or id >= 450", [0, 4]),
        ("id < 100 and id >= 450", []),
        ("150 <= id < 250", [1, 2]),
        ("id in [5, 405]", [0, 4]),
        ("id not in [5, 405]", [0, 1, 2, 3, 4]),
        ("not (id not in [5, 405])", [0, 4]),
        ("id in [5, 405] and not id < 300", [4]),
        ("not (id in [5, 405] or id < 400)", [4]),
        ("id >= 300 and count == 3", [3, 4]),
        ("id >= 300 or count == 3", [0, 1, 2, 3, 4]),
        ("x >= 300", [3, 4]),
        ("n is None", [2]),
        ("n >= 400", [2, 4]),  # Arrow does not decide where some values are null
        ("id is None", []),
    ],
)
def test_only_row_groups_that_may_hold_a_chosen_row_are_read(
    bundle: str, data: Path, where: str, groups: list[int]
) -> None:
    write(data / "a.parquet", table())
    assert groups_read(bundle, data / "a.parquet", where) == groups


@pytest.mark.parametrize("where", ["not x <= 1000", "x != 50 and not x < 1000", "x not in [1.0]"])
def test_a_nan_that_a_condition_chooses_is_found_though_statistics_are_silent_about_it(
    bundle: str, data: Path, tmp_path: Path, where: str
) -> None:
    write(data / "a.parquet", table())
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(keep=("id",), where=where))
    assert set(range(100, 200, 10)) <= set(read(tmp_path / "out")["id"].to_pylist())


def test_without_statistics_every_row_group_is_read(bundle: str, data: Path) -> None:
    pq.write_table(table(), data / "a.parquet", row_group_size=100, write_statistics=False)
    assert groups_read(bundle, data / "a.parquet", "id >= 300") == list(GROUPS)


def test_truncated_statistics_of_strings_exclude_only_what_they_can(bundle: str, data: Path) -> None:
    pl.from_arrow(table()).write_parquet(data / "a.parquet", row_group_size=100)  # type: ignore[union-attr]
    place = pq.read_schema(data / "a.parquet").names.index("word")
    assert len(pq.read_metadata(data / "a.parquet").row_group(0).column(place).statistics.max) < 200
    for letter, group in zip("abcde", GROUPS, strict=True):
        assert groups_read(bundle, data / "a.parquet", f'word == "{letter * 200}"') == [group]
    assert groups_read(bundle, data / "a.parquet", f'word > "{"c" * 199}"') == [2, 3, 4]


def test_a_directory_that_excludes_a_file_keeps_it_from_being_read(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    for month in (7, 8):
        write(data / f"month={month}" / "a.parquet", rows(100 * month, 100))
    destroy(data / "month=7" / "a.parquet", 0)
    settings = Batch(keep=("id",), where="month == 8")
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(800, 900))
    assert (result.record.rows_in, result.record.rows_out) == (200, 100)


def test_rows_passed_over_count_in_the_manifest_and_when_a_job_resumes_and_is_verified(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", table())
    destroy(data / "a.parquet", 0)
    destroy(data / "a.parquet", 2)
    settings = Batch(keep=("id",), where="id == 150 or id >= 300", unit_rows=100)
    begin(bundle, data, tmp_path / "out", settings, n_units=2)
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    ids = [150, *range(300, 500)]
    assert read(tmp_path / "out").to_pydict() == {"id": ids, "score": expected(ids)}
    assert (result.resumed, result.record.rows_in, result.record.rows_out) == (2, 500, len(ids))
    checked = verify(str(tmp_path / "out"), n_rows=500)
    assert (checked.rows, checked.differing) == (len(ids), 0)


def test_a_limit_counts_rows_that_are_passed_over(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", table())
    destroy(data / "a.parquet", 0)
    settings = Batch(keep=("id",), where="id >= 110", limit=150)
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(110, 150))
    assert (result.record.rows_in, result.record.rows_out) == (150, 40)


def test_a_job_of_which_no_row_can_be_chosen_has_an_empty_output(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", table())
    result = score_files(
        bundle, [str(data)], str(tmp_path / "out"), settings=Batch(keep=("id",), where="id < 0")
    )
    assert (result.record.rows_in, result.record.rows_out) == (500, 0)
    assert pq.read_table(tmp_path / "out").num_rows == 0


@pytest.mark.parametrize("where", ["carrier > 3", "amount", 'amount != "dear"'])
def test_a_condition_that_does_not_suit_the_columns_is_refused(
    bundle: str, data: Path, tmp_path: Path, where: str
) -> None:
    write(data / "a.parquet", table())
    with pytest.raises(InvalidConfig, match=r"does not suit.*a.parquet"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(where=where))
