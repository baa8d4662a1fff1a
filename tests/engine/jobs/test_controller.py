"""What becomes of jobs beside others: one output, one id, an interrupt that comes too late."""

import os
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow.parquet as pq
import pytest

from engine.config import Batch
from engine.errors import Conflict
from engine.jobs.job import Job, JobRequest
from tests.engine.batch.conftest import begin
from tests.engine.jobs.conftest import N_ROWS, Service, finished, ids, slow, until
from tests.waiting import wait_until

HELD = """
import os, signal, sys

def hold(event, arguments):
    if event == "shutil.rmtree" and os.path.basename(arguments[0]) == "mine":
        sys.stdout.write("what a library prints")
        there, here = os.pipe()
        signal.signal(signal.SIGINT, lambda *_: os.write(here, b"!"))
        open(os.environ["HELD"], "w").close()
        os.read(there, 1)
        if os.environ["HEEDS"]:
            raise KeyboardInterrupt

sys.addaudithook(hold)
"""
"""Holds a job that has published, when it removes its records, until it is interrupted."""


def more(rows: Path, path: Path) -> Path:
    """As many rows again, with other ids."""
    table = pq.read_table(rows)
    pq.write_table(table.set_column(0, "id", [range(N_ROWS, 2 * N_ROWS)]), path, row_group_size=200)
    return path


def test_jobs_run_side_by_side_but_never_two_to_one_output(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    appended = slow(bundle, more(rows, tmp_path / "more.parquet"), tmp_path / "a")
    appended = msgspec.structs.replace(
        appended, settings=msgspec.structs.replace(appended.settings, mode="append")
    )
    requests = [
        slow(bundle, rows, tmp_path / "a"),
        appended,
        slow(bundle, rows, tmp_path / "b"),
        slow(bundle, rows, tmp_path / "c"),
    ]

    with service(max_running=2) as client:
        submitted = [client.submit(request).id for request in requests]

        def states() -> list[str]:
            found = {job.id: job.state for job in client.jobs()}
            return [found[job] for job in submitted]

        wait_until(lambda: states() == ["running", "queued", "running", "queued"])
        done = [until(client, job, finished).job for job in submitted]
        assert [job.state for job in done] == ["done"] * 4, [job.message for job in done]

    a, a_too, b, c = done
    assert overlap(a, b)
    assert not overlap(a, a_too)
    assert c.started_s >= min(a.finished_s, b.finished_s)
    assert ids(tmp_path / "a") == list(range(2 * N_ROWS))
    assert ids(tmp_path / "b") == ids(tmp_path / "c") == list(range(N_ROWS))


def overlap(a: Job, b: Job) -> bool:
    return a.started_s < b.finished_s and b.started_s < a.finished_s


def test_a_job_that_carries_on_another_one_is_told_in_that_ones_rows(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    request = slow(bundle, rows, tmp_path / "out")
    left = begin(str(bundle), rows, tmp_path / "out", request.settings, n_units=20)
    before = sum(unit.rows for unit in left.units[:20])
    with service() as client:
        job = client.submit(request)
        status = until(client, job.id, lambda status: finished(status) or status.rows_done > before)
        assert (status.job.state, status.rows_total) == ("running", N_ROWS)
        assert status.job.id != left.job
        status = until(client, job.id, finished)
    assert (status.rows_done, status.rows_total) == (N_ROWS, N_ROWS)
    elapsed_s = status.job.finished_s - status.job.started_s
    assert status.rows_per_s == pytest.approx((N_ROWS - before) / elapsed_s)


@pytest.mark.parametrize("heeds", ["yes", ""], ids=["interrupted", "ends by itself"])
def test_a_job_that_had_published_when_it_was_cancelled_is_done(
    heeds: str, service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "sitecustomize.py").write_text(HELD)
    paths = [str(tmp_path / "hooks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    hooks = {"PYTHONPATH": os.pathsep.join(paths), "HELD": str(tmp_path / "held"), "HEEDS": heeds}
    settings = Batch(keep=("id",), runner="local")
    request = JobRequest(str(bundle), (str(rows),), str(tmp_path / "out"), settings, job="mine")
    with service(hooks) as client:
        client.submit(request)
        wait_until((tmp_path / "held").exists)
        assert client.cancel("mine").state == "cancelled"
        status = until(client, "mine", lambda status: status.job.state == "done")
        assert (status.rows_done, status.rows_total) == (N_ROWS, N_ROWS)
        told = "it had published its scores when it ended" if heeds else f"{N_ROWS:,} rows scored into"
        assert status.job.message.startswith(told)
        assert "what a library prints" in client.log("mine")
    assert ids(tmp_path / "out") == list(range(N_ROWS))


def test_an_id_passes_to_another_request_once_its_job_was_cancelled_but_not_before(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    first = msgspec.structs.replace(slow(bundle, rows, tmp_path / "one"), job="mine")
    second = msgspec.structs.replace(first, output=str(tmp_path / "two"))
    with service() as client:
        client.submit(first)
        until(client, "mine", lambda status: status.rows_done > 0)
        with pytest.raises(Conflict, match="job 'mine' is another request, which is running; give"):
            client.submit(second)
        client.cancel("mine")
        assert client.submit(second).state == "queued"
        status = until(client, "mine", finished)
        assert (status.job.state, status.rows_done) == ("done", N_ROWS), client.log("mine")
        with pytest.raises(Conflict, match="job 'mine' is another request, which is done; give"):
            client.submit(first)
        assert len(client.jobs()) == 1
    assert ids(tmp_path / "two") == list(range(N_ROWS))
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [("error", "the output holds the result of job"), ("append", "1 of 2 input files")],
)
def test_input_that_the_mode_of_an_output_does_not_allow_ends_in_a_failed_job_that_says_so(
    mode: Literal["error", "append"],
    sentence: str,
    service: Service,
    bundle: Path,
    rows: Path,
    tmp_path: Path,
) -> None:
    data = tmp_path / "growing"
    data.mkdir()
    (data / "a.parquet").write_bytes(rows.read_bytes())
    request = JobRequest(str(bundle), (str(data),), str(tmp_path / "out"), Batch(keep=("id",), mode=mode))
    with service() as client:
        until(client, client.submit(request).id, finished)
        more(rows, data / "b.parquet")
        job = until(client, client.submit(request).id, finished).job
    assert job.state == "failed"
    assert sentence in job.message
    assert ids(tmp_path / "out") == list(range(N_ROWS))
