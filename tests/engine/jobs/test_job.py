import msgspec
import pytest

from engine.jobs.job import Job, JobId, JobRequest, new_job, next_to_start, status_of


def job(name: str, state: str = "queued", output: str = "", submitted_s: float = 0.0) -> Job:
    request = JobRequest("bundle", ("in",), output or f"/out/{name}", job=name)
    return Job(name, request, state, submitted_s)  # type: ignore[arg-type]


def test_the_oldest_queued_job_starts_first() -> None:
    jobs = [job("late", submitted_s=2), job("early", submitted_s=1), job("over", "done")]
    assert next_to_start(jobs, busy={}, max_running=1) == jobs[1]


def test_no_job_starts_while_as_many_as_allowed_run() -> None:
    jobs = [job("one", "running"), job("two")]
    assert next_to_start(jobs, busy={"one": "/out/one"}, max_running=1) is None
    assert next_to_start(jobs, busy={"one": "/out/one"}, max_running=2) == jobs[1]


@pytest.mark.parametrize("spelled", ["/out", "/out/", "file:///out"])
def test_two_jobs_never_write_to_one_output_at_a_time(spelled: str) -> None:
    jobs = [
        job("one", "running", "/out"),
        job("two", output=spelled, submitted_s=1),
        job("three", submitted_s=2),
    ]
    assert next_to_start(jobs, busy={"one": "/out"}, max_running=2) == jobs[2]


def test_a_resumed_job_waits_for_its_former_process_and_so_does_another_request_in_its_place() -> None:
    for output in ("/out/one", "/out/before"):
        assert next_to_start([job("one", "queued")], busy={"one": output}, max_running=2) is None


def test_equal_requests_are_one_job_and_the_callers_id_wins() -> None:
    request = JobRequest("bundle", ("in",), "/out")
    assert new_job(request).id == new_job(JobRequest("bundle", ("in",), "/out")).id
    assert new_job(request).id != new_job(JobRequest("bundle", ("in",), "/other")).id
    assert new_job(msgspec.structs.replace(request, job="nightly")).id == "nightly"


@pytest.mark.parametrize(
    "text",
    [
        '{"bundle":"b","inputs":[],"output":"o"}',
        '{"bundle":"b","inputs":["i"],"output":""}',
        '{"bundle":"b","inputs":["i"],"output":"o","job":"../x"}',
        '{"bundle":"b","inputs":["i"],"output":"o","job":"r1\\n"}',
    ],
)
def test_a_malformed_request_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=JobRequest)


def test_an_id_is_one_line() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert("r1\n", JobId)


def test_the_rate_counts_only_what_this_run_committed() -> None:
    running = msgspec.structs.replace(job("one", "running"), started_s=100.0)
    status = status_of(running, rows_done=600, rows_total=1000, rows_at_start=200, now_s=110.0)
    assert status.rows_per_s == 40.0
    assert status.seconds_left == 10.0
