"""What a job is, as values: the request, its state, its progress, and which one starts next."""

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from engine.batch.plan import JOB_ID
from engine.batch.plan import JobId as JobId  # its type is also the interface's
from engine.bundle import ENDS
from engine.config import Batch

State = Literal["queued", "running", "done", "failed", "cancelled"]
Location = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]

UNFINISHED: tuple[State, ...] = ("queued", "running")
RESUMABLE: tuple[State, ...] = ("failed", "cancelled")


class JobRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to score, with what, to where.

    Attributes:
        bundle: Directory of the bundle; this and every other path is absolute, on the engine's machine.
        inputs: Parquet files, directories or globs, or object-store URIs.
        output: Directory or object-store prefix for the scores.
        settings: The options of ``tandem score``.
        job: The caller's own id; the same id is the same job. Empty: derived from all the above.
        restart: Give up what an unfinished job left at the output.
        report: Write an HTML page about the job to this file of the engine's machine, and JSON beside it.
    """

    bundle: Location
    inputs: Annotated[tuple[Location, ...], msgspec.Meta(min_length=1, max_length=10_000)]
    output: Location
    settings: Batch = Batch()
    job: Annotated[str, msgspec.Meta(pattern=f"^({JOB_ID})?{ENDS}")] = ""
    restart: bool = False
    report: Annotated[str, msgspec.Meta(max_length=4096)] = ""

    @property
    def id(self) -> str:
        """The id of the first job of this request: equal requests have equal ids."""
        digest = hashlib.sha256(msgspec.json.encode(self, order="deterministic"))
        return self.job or digest.hexdigest()[:12]


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A job in the queue. Times are seconds since 1970, 0 for not yet.

    Attributes:
        id: Its id.
        request: What was asked for.
        state: Where it stands.
        submitted_s: When it was (last) put into the queue; the oldest starts first.
        started_s: When its process last started.
        finished_s: When it ended.
        message: The result or the error, as one sentence.
    """

    id: JobId
    request: JobRequest
    state: State = "queued"
    submitted_s: float = 0.0
    started_s: float = 0.0
    finished_s: float = 0.0
    message: str = ""


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of JSON that a job's process writes to its engine.

    Attributes:
        runs_as: The id that it has at the output: another one's, where it goes on with what that one left.
        rows_before: Rows that were committed when it came to score; None if that is not the news.
        message: The result as one sentence; empty before there is one.
    """

    runs_as: JobId
    rows_before: int | None = None
    message: str = ""


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A job and how far it is.

    Attributes:
        job: The job.
        rows_done: Rows of committed units, whoever committed them.
        rows_total: Rows of the plan; 0 before there is one.
        rows_per_s: Since the job's process last started; 0 if unknown.
        seconds_left: At that rate; 0 if unknown or finished.
    """

    job: Job
    rows_done: int = 0
    rows_total: int = 0
    rows_per_s: float = 0.0
    seconds_left: float = 0.0


def next_to_start(jobs: Sequence[Job], busy: Mapping[str, str], max_running: int) -> Job | None:
    """The oldest queued job, if another one may run and none under way writes to its output.

    Args:
        jobs: All jobs.
        busy: Outputs of those that have a process, be it one that was told to stop, by id.
        max_running: Processes at once.
    """
    if len(busy) >= max_running:
        return None
    taken = set(map(_place, busy.values()))
    queued = [
        job
        for job in jobs
        if job.state == "queued" and job.id not in busy and _place(job.request.output) not in taken
    ]
    return min(queued, key=lambda job: (job.submitted_s, job.id), default=None)


def _place(output: str) -> str:
    """One name for one output, however it is spelled; links apart."""
    return os.path.normpath(output.removeprefix("file://"))


def status_of(job: Job, rows_done: int, rows_total: int, rows_at_start: int, now_s: float) -> Status:
    """A job's status from its rows; ``rows_at_start`` had been committed before it last started."""
    elapsed_s = (job.finished_s or now_s) - job.started_s
    rate = max(0.0, (rows_done - rows_at_start) / elapsed_s) if job.started_s and elapsed_s > 0 else 0.0
    left_s = (rows_total - rows_done) / rate if rate and job.state == "running" else 0.0
    return Status(job, rows_done, rows_total, rate, left_s)


def new_job(request: JobRequest, run: int = 1) -> Job:
    """A request as a queued job, now, the first of it or another run."""
    return Job(request.id if run == 1 else f"{request.id}-{run}", request, submitted_s=time.time())
