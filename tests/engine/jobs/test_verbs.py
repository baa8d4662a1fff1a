"""``tandem submit`` and its like, against the real service."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from engine.cli.app import app
from engine.errors import Conflict, TandemError
from engine.jobs.client import JobClient
from tests.engine.batch.conftest import make_bundle, write
from tests.engine.batch.conftest import rows as rows_of_fares
from tests.engine.jobs.conftest import Service


def tandem(client: JobClient, verb: str, *words: object) -> Result:
    return CliRunner().invoke(app, [verb, *map(str, words), "--url", client._url], catch_exceptions=False)


def test_a_request_that_is_done_runs_again_and_finds_its_scores(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    submit = ("submit", bundle, "-i", rows, "-o", tmp_path / "out", "--wait")
    with service() as client:
        first, again = tandem(client, *submit), tandem(client, *submit)
    job, told = first.stdout.strip(), f"done: 30,000 rows scored into {tmp_path / 'out'}"
    assert f"{job} {told}; 30,000 of 30,000 rows" in first.stderr
    assert (again.exit_code, again.stdout) == (0, f"{job}-2\n")
    assert f"{job}-2 {told} by an earlier run; nothing was left to do" in again.stderr


def test_a_report_is_written_for_a_submitted_job(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    page = tmp_path / "pages" / "job.html"
    with service() as client:
        submit = ("submit", bundle, "-i", rows, "-o", tmp_path / "out", "--report", page, "--wait")
        assert tandem(client, *submit).exit_code == 0
    assert "30,000" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["record"]["rows_out"] == 30_000


def test_a_page_that_cannot_be_written_leaves_the_job_done(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with service() as client:
        where = ("--report", tmp_path / "file" / "job.html", "--job", "mine", "--wait")
        assert tandem(client, "submit", bundle, "-i", rows, "-o", tmp_path / "out", *where).exit_code == 0
        assert "the page was not written" in client.log("mine")


def test_an_id_of_the_callers_own_is_told_again(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    submit = ("submit", bundle, "-i", rows, "-o", tmp_path / "out", "--job", "mine")
    with service() as client:
        tandem(client, *submit, "--wait")
        again, waiting = tandem(client, *submit), tandem(client, *submit, "--wait")
        with pytest.raises(Conflict, match="job 'mine' is another request"):
            tandem(client, *submit[:5], tmp_path / "other", "--job", "mine")
    told = f"mine done: 30,000 rows scored into {tmp_path / 'out'}"
    assert (again.exit_code, again.stderr) == (0, f"{told}\n")
    assert (waiting.exit_code, waiting.stdout) == (0, "mine\n")
    assert waiting.stderr.startswith(f"{told}; 30,000 of 30,000 rows")


def test_a_job_that_failed_is_told_with_the_way_to_try_it_again(
    service: Service, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    submit = ("submit", bundle, "-i", tmp_path / "broken.parquet", "-o", tmp_path / "out", "--job", "mine")
    with service() as client:
        for _ in range(2):
            with pytest.raises(TandemError, match=r"^job mine failed: .*; `tandem resume mine` tries again$"):
                tandem(client, *submit, "--wait")


def test_a_job_that_failed_on_a_bad_row_goes_on_under_its_id_as_its_error_advises(
    service: Service, tmp_path: Path
) -> None:
    bad = rows_of_fares(0, 300).set_column(3, "carrier", [["XX", *["AA"] * 299]])
    write(tmp_path / "fares.parquet", bad)
    submit = ("submit", make_bundle(tmp_path), "-i", tmp_path / "fares.parquet", "-o", tmp_path / "out")
    with service() as client:
        with pytest.raises(TandemError, match="on-bad-row"):
            tandem(client, *submit, "--job", "mine", "--wait")
        done = tandem(client, *submit, "--job", "mine", "--on-bad-row", "null", "--wait")
    assert (done.exit_code, done.stdout) == (0, "mine\n")
    assert "mine done: 300 rows scored into" in done.stderr


def test_paths_are_made_absolute_before_they_are_sent(
    service: Service, bundle: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    where = (os.path.relpath(bundle), "-i", os.path.relpath(rows), "-o", "out", "--report", "page.html")
    with service() as client:
        assert tandem(client, "submit", *where, "--wait").exit_code == 0
        (request,) = [job.request for job in client.jobs()]
    assert (request.bundle, request.inputs) == (f"{tmp_path}/{where[0]}", (str(rows),))
    assert (request.output, request.report) == (f"{tmp_path}/out", f"{tmp_path}/page.html")


def test_a_job_that_never_ran_says_that_it_wrote_nothing(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    with service(max_running=1) as client:
        for job in ("first", "second"):
            tandem(client, "submit", bundle, "-i", rows, "-o", tmp_path / "out", "--job", job)
        cancelled, logs = tandem(client, "cancel", "second"), tandem(client, "logs", "second")
    assert cancelled.stdout == "second cancelled: `tandem resume` goes on with it\n"
    assert (logs.stdout, logs.stderr) == ("", "nothing yet; `tandem status second` says how far it is\n")


def test_an_engine_that_took_no_job_leaves_no_folder(service: Service, tmp_path: Path) -> None:
    with service() as client:
        assert client.jobs() == []
    assert list(tmp_path.iterdir()) == []
