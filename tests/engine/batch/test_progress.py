import io
from pathlib import Path

import pytest

from engine.batch.output import open_output
from engine.batch.progress import line, progress_at, rows_done, shown
from engine.batch.records import Records
from engine.config import Batch
from tests.engine.batch.conftest import begin, rows, write

SETTINGS = Batch(keep=("id",), unit_rows=100)


@pytest.mark.parametrize(
    ("done", "since_start", "text"),
    [
        (0, 0, "0 of 4,000,000 rows (0 %)"),
        (2_000_000, 2_000_000, "2,000,000 of 4,000,000 rows (50 %), 1.00 M rows/s, 2 s left"),
        (3_000_000, 1_000_000, "3,000,000 of 4,000,000 rows (75 %), 0.50 M rows/s, 2 s left"),
        (4_000_000, 3_000, "4,000,000 of 4,000,000 rows (100 %), 1,500 rows/s, 0 s left"),
    ],
)
def test_a_line_counts_all_rows_and_the_rate_of_this_driver(done: int, since_start: int, text: str) -> None:
    assert line(done, 4_000_000, since_start=since_start, elapsed_s=2.0) == text


def test_an_empty_job_is_finished() -> None:
    assert line(0, 0, since_start=0, elapsed_s=1.0) == "0 of 0 rows (100 %)"


def test_progress_is_read_from_records_by_whoever_asks(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 350))
    plan = begin(bundle, data, tmp_path / "out", SETTINGS, n_units=2)
    assert rows_done(Records.of(open_output(str(tmp_path / "out")).store(plan.job), plan), plan) == 200
    assert progress_at(str(tmp_path / "out"), plan.job) == (200, 350)
    assert progress_at(str(tmp_path / "out"), "another") == (0, 0)


def test_what_is_shown_ends_with_the_last_state(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 350))
    plan = begin(bundle, data, tmp_path / "out", SETTINGS, n_units=2)
    stream = io.StringIO()
    with shown(Records.of(open_output(str(tmp_path / "out")).store(plan.job), plan), plan, stream):
        assert stream.getvalue() == ""
    assert stream.getvalue() == "200 of 350 rows (57 %)\n"
