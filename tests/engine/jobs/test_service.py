"""Real jobs through the real service: its processes, its queue and its REST interface."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import pytest

from engine.config import Batch
from engine.errors import Conflict, Failed, InvalidRequest, NotFound, Overloaded
from engine.jobs.client import JobClient
from engine.jobs.job import JobRequest
from tests.engine.jobs.conftest import N_ROWS, Service, finished, ids, slow, until


def test_a_submitted_job_is_scored_and_told_in_rows(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    with service() as client:
        job = client.submit(JobRequest(str(bundle), (str(rows),), str(tmp_path / "out"), Batch(keep=("id",))))
        status = until(client, job.id, finished)
        assert status.job.state == "done", client.log(job.id)
        assert status.job.message == f"{N_ROWS:,} rows scored into {tmp_path / 'out'}"
        assert status.rows_done == status.rows_total == N_ROWS
        assert ids(tmp_path / "out") == list(range(N_ROWS))
        assert f"{N_ROWS:,} of {N_ROWS:,} rows" in client.log(job.id)


def test_the_same_request_twice_is_one_job(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    with service() as client:
        request = slow(bundle, rows, tmp_path / "out")
        assert client.submit(request).id == client.submit(request).id
        assert len(client.jobs()) == 1


def test_a_request_that_comes_again_with_more_input_scores_it(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    data = tmp_path / "growing"
    data.mkdir()
    (data / "a.parquet").write_bytes(rows.read_bytes())
    settings = Batch(keep=("id",), mode="overwrite")
    request = JobRequest(str(bundle), (str(data),), str(tmp_path / "out"), settings)
    with service() as client:
        first = client.submit(request)
        until(client, first.id, finished)
        (data / "b.parquet").write_bytes(rows.read_bytes())
        second = client.submit(request)
        status = until(client, second.id, finished)
        assert (status.job.state, status.rows_done) == ("done", 2 * N_ROWS), client.log(second.id)
    assert len(ids(tmp_path / "out")) == 2 * N_ROWS


def test_a_cancelled_job_leaves_nothing_visible_and_goes_on_when_resumed(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with service() as client:
        job = client.submit(slow(bundle, rows, output))
        until(client, job.id, lambda status: status.rows_done > 0)
        assert client.cancel(job.id).state == "cancelled"
        assert not list(output.glob("*.parquet"))
        kept = client.status(job.id).rows_done
        assert client.resume(job.id).state == "queued"
        status = until(client, job.id, finished)
        assert status.job.state == "done", client.log(job.id)
        assert status.rows_done == N_ROWS
        assert kept > 0
        assert ids(output) == list(range(N_ROWS))


def test_a_job_under_way_when_the_engine_stops_is_finished_by_the_next_engine(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with service() as client:
        job = client.submit(slow(bundle, rows, output))
        until(client, job.id, lambda status: status.rows_done > 0)
    assert not list(output.glob("*.parquet"))
    with service() as client:
        assert until(client, job.id, finished).job.state == "done"
    assert ids(output) == list(range(N_ROWS))


def test_jobs_wait_for_one_another_and_too_many_are_refused(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    with service(max_running=1, max_queued=1) as client:
        first = client.submit(slow(bundle, rows, tmp_path / "one"))
        until(client, first.id, lambda status: status.job.state == "running")
        second = client.submit(slow(bundle, rows, tmp_path / "two"))
        assert client.status(second.id).job.state == "queued"
        with pytest.raises(Overloaded, match=r"1 jobs wait already.* again in 30 s or later") as refused:
            client.submit(slow(bundle, rows, tmp_path / "three"))
        assert refused.value.retry_after_s == 30
        assert client.cancel(second.id).state == "cancelled"
        assert until(client, first.id, finished).job.state == "done"


def test_a_job_that_cannot_be_done_fails_with_the_sentence(
    service: Service, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with service() as client:
        job = client.submit(
            JobRequest(str(bundle), (str(tmp_path / "broken.parquet"),), str(tmp_path / "out"))
        )
        status = until(client, job.id, finished)
        assert status.job.state == "failed"
        assert "broken.parquet" in status.job.message


def test_what_makes_no_sense_is_refused_by_name(service: Service) -> None:
    with service() as client:
        with pytest.raises(NotFound, match="no job 'nobody'"):
            client.status("nobody")
        with pytest.raises(NotFound):
            client.cancel("nobody")
    with pytest.raises(Failed, match=r"no engine takes jobs at http://127\.0\.0\.1:9: Connection refused;"):
        JobClient("http://127.0.0.1:9").jobs()


def test_another_port_of_the_engine_is_told_from_the_one_for_jobs(service: Service) -> None:
    with service() as client, pytest.raises(InvalidRequest, match=r"no jobs are taken at .*elsewhere; "):
        JobClient(f"{client._url}/elsewhere").jobs()


@pytest.mark.parametrize(
    ("field", "value"),
    [("bundle", "models/x"), ("inputs", ("/in", "in")), ("output", "file://out"), ("report", "~/page.html")],
)
def test_a_relative_path_is_refused(service: Service, field: str, value: object, tmp_path: Path) -> None:
    request = msgspec.structs.replace(JobRequest("/bundle", ("s3://in",), str(tmp_path)), **{field: value})
    with service() as client:
        with pytest.raises(
            InvalidRequest, match=rf"expected an absolute path, got .* - at `\$\.{field}`; the"
        ):
            client.submit(request)
        assert client.jobs() == []


def test_a_finished_job_can_be_neither_cancelled_nor_resumed(
    service: Service, bundle: Path, rows: Path, tmp_path: Path
) -> None:
    with service() as client:
        job = client.submit(JobRequest(str(bundle), (str(rows),), str(tmp_path / "out")))
        until(client, job.id, finished)
        with pytest.raises(Conflict, match="is done; expected it to be queued or running"):
            client.cancel(job.id)
        with pytest.raises(Conflict, match="is done; expected it to be failed or cancelled"):
            client.resume(job.id)


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("GET", "/v2/health/ready", 404, "Not Found: GET /v2/health/ready; jobs are at /v1/jobs"),
        ("DELETE", "/v1/jobs", 405, "Method Not Allowed: DELETE /v1/jobs; jobs are at /v1/jobs"),
    ],
)
def test_an_unknown_route_is_refused_in_json(
    service: Service, method: str, path: str, status: int, sentence: str
) -> None:
    with service() as client, pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{client._url}{path}", method=method))
    assert refused.value.code == status
    assert json.loads(refused.value.read()) == {"error": sentence}


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"{", 400, "Input data was truncated"),
        (b'{"bundle":"b","inputs":["i"],"output":"o","sneaky":1}', 400, "unknown field `sneaky`"),
        (b" " * ((1 << 20) + 1), 413, "at most 1048576 bytes"),
    ],
    ids=["no JSON", "unknown key", "too large"],
)
def test_a_bad_body_gets_a_status_and_a_sentence(
    service: Service, body: bytes, status: int, sentence: str
) -> None:
    with service() as client, pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{client._url}/v1/jobs", body, method="POST"))
    assert refused.value.code == status
    assert sentence in json.loads(refused.value.read())["error"]
