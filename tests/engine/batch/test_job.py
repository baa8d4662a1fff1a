"""Whole jobs in this process, checked against scores computed by hand."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Event

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.batch.job import score_files
from engine.batch.output import open_output
from engine.batch.plan import Plan
from engine.batch.records import Records
from engine.batch.runners import choose
from engine.batch.work import make_work
from engine.bundle import read_bundle
from engine.config import Batch
from engine.errors import InvalidConfig, InvalidTable, JobChanged, NotFound, OutputExists
from tests.engine.batch.conftest import attempt, begin, destroy, expected, hidden, read, rows, write

KEEP_ID = Batch(keep=("id",), unit_rows=100)


def test_every_row_is_scored_once_and_keeps_its_id(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 250))
    write(data / "b.parquet", rows(250, 30))
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    table = read(tmp_path / "out")
    assert table["id"].to_pylist() == list(range(280))
    assert table["score"].to_pylist() == expected(range(280))
    assert (result.record.rows_in, result.record.rows_out, result.record.rows_bad) == (280, 280, 0)


def test_the_output_holds_its_files_a_manifest_and_a_success_mark(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 250))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert {part["path"] for part in manifest["parts"]} | {"_manifest.json", "_SUCCESS"} == set(
        os.listdir(tmp_path / "out")
    )
    assert manifest["jobs"][0]["model"].startswith("fares@")
    assert not hidden(tmp_path / "out").exists()


def test_the_manifest_proves_files_by_size_and_digest(bundle: str, data: Path, tmp_path: Path) -> None:
    import hashlib

    write(data / "a.parquet", rows(0, 250))
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    assert len(result.manifest.parts) == 3
    for part in result.manifest.parts:
        content = (tmp_path / "out" / part.path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (part.size, part.sha256)


def test_a_file_a_glob_and_several_locations_are_inputs(bundle: str, data: Path, tmp_path: Path) -> None:
    for index in range(4):
        write(data / f"x{index % 2}" / f"{index}.parquet", rows(index * 10, 10))
    places = [str(data / "x0" / "0.parquet"), str(data / "**" / "[13].parquet")]
    score_files(bundle, places, str(tmp_path / "out"), settings=KEEP_ID)
    assert read(tmp_path / "out")["id"].to_pylist() == [*range(20), *range(30, 40)]


def test_kept_columns_keep_their_types(bundle: str, data: Path, tmp_path: Path) -> None:
    table = rows(0, 10).append_column("when", pa.array(range(10), pa.timestamp("us", "UTC")))
    write(data / "a.parquet", table)
    score_files(
        bundle, [str(data)], str(tmp_path / "out"), settings=Batch(keep=("when", "carrier", "id", "count"))
    )
    found = pq.read_table(tmp_path / "out")
    assert found.select(["when", "carrier", "id", "count"]).equals(
        table.select(["when", "carrier", "id", "count"])
    )
    assert found.schema.names == ["when", "carrier", "id", "count", "score"]


def test_a_file_without_rows_gives_an_output_without_rows(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 0))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    table = pq.read_table(tmp_path / "out")
    assert (table.num_rows, table.schema.names) == (0, ["id", "score"])


def test_the_same_call_again_finds_its_result(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    first = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    second = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    assert (second.attached, second.job) == (True, first.job)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_another_job_does_not_touch_a_filled_output(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    with pytest.raises(OutputExists, match="--mode overwrite"):
        score_files(bundle, [str(data)], str(tmp_path / "out"))
    assert read(tmp_path / "out").num_rows == 10


def test_files_of_others_are_not_overwritten(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExists, match="no job wrote"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(mode="overwrite"))
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_overwriting_exchanges_the_whole_output(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    write(data / "a.parquet", rows(50, 20))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(keep=("id",), mode="overwrite"))
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(50, 70))
    assert sorted(os.listdir(tmp_path)) == ["data", "out"]


def test_appending_adds_to_what_is_there(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    write(data / "b.parquet", rows(10, 10))
    append = Batch(keep=("id",), mode="append")
    for name in ("a", "b", "b"):
        result = score_files(bundle, [str(data / f"{name}.parquet")], str(tmp_path / "out"), settings=append)
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(20))
    assert (len(result.manifest.jobs), result.attached) == (2, True)


def test_a_condition_chooses_the_rows(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 200))
    settings = Batch(keep=("id",), where='id >= 150 and carrier == "UA"')
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    ids = [i for i in range(150, 200) if i % 3 == 2]
    assert read(tmp_path / "out").to_pydict() == {"id": ids, "score": expected(ids)}
    assert (result.record.rows_in, result.record.rows_out) == (200, len(ids))


def test_a_limit_takes_the_first_rows(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 250))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(keep=("id",), limit=120))
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(120))


def test_directories_carry_columns_in_and_out(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "month=7" / "carrier=UA" / "a.parquet", rows(0, 6).drop_columns(["carrier"]))
    write(data / "month=8" / "carrier=AA" / "a.parquet", rows(6, 6).drop_columns(["carrier"]))
    settings = Batch(keep=("id", "count"), partition_by=("month", "count"))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    table = read(tmp_path / "out")
    assert table["id"].to_pylist() == list(range(12))
    assert table["score"].to_pylist() == [i - 3 * (i % 7) + (200 if i < 6 else 0) for i in range(12)]
    assert table["month"].cast(pa.int64()).to_pylist() == [7] * 6 + [8] * 6
    assert table["count"].cast(pa.int64()).to_pylist() == [i % 7 for i in range(12)]
    assert (tmp_path / "out" / "month=7" / "count=0").is_dir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["count"]), "count"),
        (lambda t: t.set_column(1, "amount", pa.array(["x"] * t.num_rows)), "amount"),
        (lambda t: t.drop_columns(["id"]), "'id'"),
    ],
)
def test_a_missing_or_retyped_column_is_named_with_its_file(
    bundle: str, data: Path, tmp_path: Path, change: object, message: str
) -> None:
    write(data / "a.parquet", rows(0, 10))
    write(data / "b.parquet", change(rows(10, 10)))  # type: ignore[operator]
    with pytest.raises(InvalidTable, match=f"{message}.*b.parquet"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    assert os.listdir(tmp_path) == ["data"]


def test_a_kept_column_has_one_type_in_all_files(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    write(data / "b.parquet", rows(0, 10).set_column(0, "id", pa.array(["x"] * 10)))
    with pytest.raises(
        InvalidTable, match=r"'id' to be int64 as in .*a.parquet, got string - at .*b.parquet"
    ):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)


def test_an_empty_directory_is_an_error(bundle: str, data: Path, tmp_path: Path) -> None:
    (data / "notes.txt").write_text("no data")
    with pytest.raises(NotFound, match="found none"):
        score_files(bundle, [str(data)], str(tmp_path / "out"))


@pytest.mark.parametrize(("content", "message"), [(b"", "0 bytes"), (b"PAR1 nonsense PAR1", "footer")])
def test_a_file_that_is_no_parquet_is_named(
    bundle: str, data: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    write(data / "a.parquet", rows(0, 10))
    (data / "b.parquet").write_bytes(content)
    with pytest.raises(InvalidTable, match=f"{message}.*b.parquet"):
        score_files(bundle, [str(data)], str(tmp_path / "out"))


def test_a_corrupt_page_names_file_and_row_group(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 300))
    group = pq.ParquetFile(data / "a.parquet").metadata.row_group(1)
    start = min(group.column(c).dictionary_page_offset or group.column(c).data_page_offset for c in range(4))
    content = bytearray((data / "a.parquet").read_bytes())
    content[start : start + group.total_byte_size // 2] = b"\xff" * (group.total_byte_size // 2)
    (data / "a.parquet").write_bytes(content)
    with pytest.raises(InvalidTable, match=r"a.parquet, row group 1"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Batch(keep=("score",)), "the score itself"),
        (Batch(keep=("id", "id")), "once"),
        (Batch(where="id >"), "condition"),
    ],
)
def test_options_that_cannot_work_are_refused(
    bundle: str, data: Path, tmp_path: Path, settings: Batch, message: str
) -> None:
    write(data / "a.parquet", rows(0, 10))
    with pytest.raises(InvalidConfig, match=message):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)


def test_an_unfinished_job_is_resumed_without_reading_finished_units_again(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 300))
    bad = data / "b.parquet"
    write(bad, with_bad_amount(rows(300, 10)))
    with pytest.raises(InvalidTable, match="amount"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    done = sorted(path.name for path in hidden(tmp_path / "out").glob("*/done/*/*"))
    assert done == ["00000.json", "00001.json", "00002.json"]
    assert not (tmp_path / "out").exists()


def test_a_changed_option_does_not_resume_an_unfinished_job(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", with_bad_amount(rows(0, 300)))
    with pytest.raises(InvalidTable, match="amount"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    other = Batch(keep=("id",), unit_rows=100, on_bad_row="null", where="id >= 0")
    with pytest.raises(JobChanged, match=r"'where' was '' and is 'id >= 0'.*--restart"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=other)
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=other, restart=True)
    assert result.record.rows_bad == 1


def with_bad_amount(table: pa.Table) -> pa.Table:
    """The table with its last row's amount, which the model requires, missing."""
    amounts = table["amount"].to_pylist()
    return table.set_column(1, "amount", pa.array([*amounts[:-1], None], pa.float64()))


def test_a_job_goes_on_where_another_driver_ended(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 400))
    begin(bundle, data, tmp_path / "out", KEEP_ID, n_units=3)
    finished = {path: path.stat().st_mtime_ns for path in hidden(tmp_path / "out").rglob("*.parquet")}
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    assert (len(finished), result.resumed) == (3, 3)
    assert read(tmp_path / "out").to_pydict() == {"id": list(range(400)), "score": expected(range(400))}
    assert set(finished.values()) < {path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")}


def test_a_job_is_planned_and_read_without_the_compiler_that_takes_long_to_import() -> None:
    code = "import sys, engine.batch.job, engine.batch.local; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_job_without_a_condition_does_without_the_functions_of_arrow_that_take_long_to_import(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 100))
    code = (
        "import sys; from engine.batch.job import score_files; from engine.config import Batch\n"
        "score_files(sys.argv[1], [sys.argv[2]], sys.argv[3], settings=Batch(runner='local', keep=('id',)))\n"
        "print('pyarrow.compute' in sys.modules)"
    )
    command = [sys.executable, "-c", code, bundle, str(data), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_resumed_job_reads_no_finished_row_group_again(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 250))
    write(data / "b.parquet", rows(250, 150))
    begin(bundle, data, tmp_path / "out", KEEP_ID, n_units=3)
    for group in range(3):
        destroy(data / "a.parquet", group)
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    assert result.resumed == 3
    assert read(tmp_path / "out").to_pydict() == {"id": list(range(400)), "score": expected(range(400))}


def test_a_job_goes_on_once_its_input_is_cured(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 300))
    write(data / "b.parquet", with_bad_amount(rows(300, 10)))
    with pytest.raises(InvalidTable, match="amount"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    write(data / "b.parquet", rows(300, 10))
    for attached in (False, True):
        result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
        assert (result.resumed, result.attached) == ((0, True) if attached else (3, False))
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(310))


def test_input_that_was_scored_already_must_not_change(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 400))
    begin(bundle, data, tmp_path / "out", KEEP_ID, n_units=3)
    write(data / "a.parquet", rows(1000, 400))
    with pytest.raises(JobChanged, match=r"1 modified \(such as .*a.parquet\)"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)


def test_an_id_of_the_callers_own_is_one_job_only(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    score_files(bundle, [str(data)], str(tmp_path / "out"), job="daily")
    assert score_files(bundle, [str(data)], str(tmp_path / "out"), job="daily").attached
    with pytest.raises(JobChanged, match="job daily is published"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID, job="daily")


@pytest.mark.parametrize("job", ["../evil", "..", ".lock", "a/b", "a b", "a\n", "a" * 65])
def test_an_id_that_would_name_another_place_is_refused(
    bundle: str, data: Path, tmp_path: Path, job: str
) -> None:
    write(data / "a.parquet", rows(0, 10))
    (tmp_path / "evil").mkdir()
    with pytest.raises(InvalidConfig, match="expected as a job's id"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), job=job)
    assert sorted(os.listdir(tmp_path)) == ["data", "evil"]


def test_a_manifest_whose_job_would_name_another_place_is_no_manifest(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 10))
    (tmp_path / "evil").mkdir()
    score_files(bundle, [str(data)], str(tmp_path / "out"), job="mine")
    manifest = tmp_path / "out" / "_manifest.json"
    manifest.write_text(manifest.read_text().replace('"mine"', '"../evil"'))
    with pytest.raises(OutputExists, match="expected a manifest"):
        score_files(bundle, [str(data)], str(tmp_path / "out"))
    assert (tmp_path / "evil").is_dir()


@pytest.mark.parametrize("first", ["nightly-2024-01-01", "lock", "a"])
def test_jobs_whose_ids_begin_alike_append_to_one_output(
    bundle: str, data: Path, tmp_path: Path, first: str
) -> None:
    settings = Batch(keep=("id",), mode="append")
    for number, job in enumerate((first, f"{first}-2")):
        write(data / f"{number}.parquet", rows(10 * number, 10))
        score_files(
            bundle, [str(data / f"{number}.parquet")], str(tmp_path / "out"), settings=settings, job=job
        )
    assert sorted(read(tmp_path / "out")["id"].to_pylist()) == list(range(20))


def test_two_drivers_of_one_job_do_its_work_once(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 2000))
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(score_files, bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
            for _ in range(2)
        ]
        results = [call.result() for call in calls]
    assert sorted(result.attached for result in results) == [False, True]
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(2000))
    assert sorted(os.listdir(tmp_path)) == ["data", "out"]


def test_a_late_worker_does_not_bring_its_job_back(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 100))
    plan = begin(bundle, data, tmp_path / "out", KEEP_ID, n_units=0)
    store = open_output(str(tmp_path / "out")).store(plan.job)
    work = make_work(plan, Records.of(store, plan), read_bundle(bundle).manifest.schema)
    late = attempt(work, 0)
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    with pytest.raises(JobChanged, match="finished or given up"):
        late.commit()
    late.abort()
    assert sorted(os.listdir(tmp_path)) == ["data", "out"]


def test_an_attempt_at_an_earlier_plan_of_a_job_does_not_count(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "b.parquet", rows(100, 200))
    plan = begin(bundle, data, tmp_path / "out", KEEP_ID, n_units=0)
    records = Records.of(open_output(str(tmp_path / "out")).store(plan.job), plan)
    work = make_work(plan, records, read_bundle(bundle).manifest.schema)
    late = attempt(work, 1)
    write(data / "a.parquet", rows(0, 100))  # so that the plan's second unit is another one

    def late_end(_records: Records, _plan: Plan) -> AbstractContextManager[None]:
        assert late.commit()
        return nullcontext()

    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID, show=late_end)
    assert read(tmp_path / "out").to_pydict() == {"id": list(range(300)), "score": expected(range(300))}
    assert sorted(os.listdir(tmp_path)) == ["data", "out"]


def test_a_driver_that_waited_does_not_mix_its_plan_with_that_of_the_one_before(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "b.parquet", rows(100, 200))
    plan = begin(bundle, data, tmp_path / "out", KEEP_ID, n_units=0)
    place = open_output(str(tmp_path / "out"))
    records = Records.of(place.store(plan.job), plan)
    write(data / "a.parquet", rows(0, 100))
    waits = Event()

    def show(_records: Records, _plan: Plan) -> AbstractContextManager[None]:
        waits.set()
        return nullcontext()

    with ThreadPoolExecutor(1) as pool:
        with place.alone(plan.job, wait=False):
            second = pool.submit(
                score_files, bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID, show=show
            )
            assert waits.wait(60)
            choose(KEEP_ID, read_bundle(bundle).manifest)(records, plan, plan.units[:1])
        with pytest.raises(JobChanged, match=r"1 new \(such as .*a.parquet"):
            second.result()
    (data / "a.parquet").unlink()
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=KEEP_ID)
    assert result.resumed == 1
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(100, 300))


def test_of_two_attempts_at_a_unit_the_first_record_counts(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 100))
    plan = begin(bundle, data, tmp_path / "out", KEEP_ID, n_units=0)
    store = open_output(str(tmp_path / "out")).store(plan.job)
    work = make_work(plan, Records.of(store, plan), read_bundle(bundle).manifest.schema)
    writers = [attempt(work, 0) for _ in range(2)]
    assert [writer.commit() for writer in writers] == [True, False]
    assert len(list(hidden(tmp_path / "out").rglob("*.parquet"))) == 1
