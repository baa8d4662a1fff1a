"""Takes jobs on, runs each in a process of its own, and knows how far each is."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path

import msgspec

from engine.batch.filesystem import is_object_store
from engine.batch.output import open_output
from engine.batch.progress import progress_at
from engine.errors import Conflict, InvalidRequest, Overloaded, TandemError
from engine.jobs.job import (
    RESUMABLE,
    UNFINISHED,
    Job,
    JobRequest,
    State,
    Status,
    Told,
    new_job,
    next_to_start,
    status_of,
)
from engine.jobs.ledger import Ledger

POLL_S = 0.1
GRACE_S = 10.0
"""How long a job may take to stop after it was asked to."""
RETRY_AFTER_S = 30.0
"""When a job that was refused may come again: some job may have ended by then."""


class Controller:
    """The queue of one engine. Its methods run in one event loop.

    Args:
        directory: Where the list of jobs and their logs are kept.
        max_running: Jobs under way at once.
        max_queued: Jobs that may wait; one more is refused.
        environment: Added to the environment of each job's process, ``RAY_ADDRESS`` above all.
    """

    def __init__(
        self, directory: Path, *, max_running: int, max_queued: int, environment: Mapping[str, str]
    ) -> None:
        self._ledger = Ledger(directory / "jobs.sqlite")
        self._directory = directory
        self._max_running = max_running
        self._max_queued = max_queued
        self._environment = environment
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._outputs: dict[str, str] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        for job in self._ledger.all():
            if job.state == "running":  # its engine ended without a word
                self._ledger.move(job.id, ("running",), "queued")

    async def run(self) -> None:
        """Start queued jobs as there is room, until cancelled."""
        while True:
            job = next_to_start(self._ledger.all(), self._outputs, self._max_running)
            if job is None:
                await asyncio.sleep(POLL_S)
            else:
                await self._start(job)

    def submit(self, request: JobRequest) -> Job:
        """Queue a job, or find the one that was asked for by the same request.

        A request that is done may come again, when there is other input: it becomes a job of its own, which
        changes nothing if there is none, and fails with a sentence where the output's mode does not allow it.

        An id of the caller's own stays one job: an equal request finds it, and another one takes its place
        once it has failed or was cancelled. Whether that goes on with what was left at the output, or cannot,
        is found out when it runs.

        Raises ``InvalidRequest`` for a relative path, ``Overloaded``, and ``Conflict`` if the caller's id is
        that of another request which waits, runs or is done.
        """
        _check_paths(request)
        jobs = self._ledger.all()
        same = [job for job in jobs if job.request == request]
        if same and (request.job or same[0].state != "done"):
            return same[0]
        former = next((job for job in jobs if job.id == request.job), None)
        if former and former.state not in RESUMABLE:
            raise Conflict(
                f"job '{former.id}' is another request, which is {former.state};"
                " give this one an id of its own"
            )
        waiting = sum(job.state == "queued" for job in jobs)
        if waiting >= self._max_queued:
            raise _too_many(waiting)
        job = new_job(request, run=len(same) + 1)
        return self._replaced(job) if former else self._ledger.add(job)

    def resume(self, job_id: str) -> Job:
        """Queue a failed or cancelled job once more; it goes on where it stopped."""
        return self._ledger.move(job_id, RESUMABLE, "queued", submitted_s=time.time(), message="")

    def cancel(self, job_id: str) -> Job:
        """Stop a job, or take it out of the queue; nothing of it becomes visible.

        If its result becomes visible all the same, since it was publishing, it is done in the end.
        """
        job = self._ledger.move(
            job_id, UNFINISHED, "cancelled", finished_s=time.time(), message="`tandem resume` goes on with it"
        )
        if (process := self._processes.get(job_id)) is not None:
            self._watch(_stop(process))
        return job

    def jobs(self) -> list[Job]:
        """All jobs, the newest first."""
        return self._ledger.all()

    def status(self, job_id: str) -> Status:
        """One job and its rows, read from its records at the output."""
        job = self._ledger.get(job_id)
        runs_as, rows_at_start = self._ledger.last_run(job_id)
        done, total = progress_at(job.request.output, runs_as)
        return status_of(job, done, total, rows_at_start, time.time())

    def log(self, job_id: str) -> Path:
        """The file that a job's process writes its progress and errors to."""
        return self._directory / f"{self._ledger.get(job_id).id}.log"

    async def close(self) -> None:
        """Stop what runs; it is queued again for the next engine."""
        for job_id in list(self._processes):
            with contextlib.suppress(Conflict):  # cancelled a moment ago
                self._ledger.move(job_id, ("running",), "queued")
        await asyncio.gather(*(_stop(process) for process in list(self._processes.values())))
        await asyncio.gather(*self._watchers)
        self._ledger.close()

    def _replaced(self, job: Job) -> Job:
        """A job in place of the failed or cancelled one that has its id."""
        return self._ledger.move(
            job.id, RESUMABLE, "queued", request=msgspec.json.encode(job.request), runs_as="",
            submitted_s=job.submitted_s, started_s=0.0, finished_s=0.0, message="",
        )  # fmt: skip

    async def _start(self, job: Job) -> None:
        rows = progress_at(job.request.output, self._ledger.last_run(job.id)[0])[0]
        self._ledger.move(
            job.id, ("queued",), "running", started_s=time.time(), finished_s=0.0, rows_at_start=rows
        )
        with self.log(job.id).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "engine.jobs.work", job.id, msgspec.json.encode(job.request).decode(),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
                env={**os.environ, **self._environment}, start_new_session=True,
            )  # fmt: skip
        self._processes[job.id], self._outputs[job.id] = process, job.request.output
        self._watch(self._until_done(job, process))

    async def _until_done(self, job: Job, process: asyncio.subprocess.Process) -> None:
        told = await self._listen(job.id, process)
        code = await process.wait()
        # A process that was stopped or killed just after it had published has done its work.
        done = code == 0 or await asyncio.to_thread(_is_published, job.request.output, told)
        del self._processes[job.id], self._outputs[job.id]
        message = told.message if told else ""
        if not message:
            message = "it had published its scores when it ended" if done else _last_line(self.log(job.id))
        state: State = "done" if done else "failed"
        before: tuple[State, ...] = ("running", "cancelled") if done else ("running",)
        with contextlib.suppress(Conflict):  # cancelled, or queued for the next engine
            self._ledger.move(job.id, before, state, finished_s=time.time(), message=message)

    async def _listen(self, job_id: str, process: asyncio.subprocess.Process) -> Told | None:
        """Take down what a job's process tells until it ends; the last of it."""
        told = None
        while process.stdout and (line := await process.stdout.readline()):
            try:
                told = msgspec.json.decode(line, type=Told)
            except msgspec.DecodeError:
                continue  # somebody else's, from before the process kept its stdout for itself
            rows = {} if told.rows_before is None else {"rows_at_start": told.rows_before}
            with contextlib.suppress(Conflict):  # cancelled, or queued for the next engine
                self._ledger.move(job_id, ("running",), "running", runs_as=told.runs_as, **rows)
        return told

    def _watch(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask a job's process to stop, and make it after a while."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(GRACE_S):
                await process.wait()
        except TimeoutError:
            process.kill()


def _check_paths(request: JobRequest) -> None:
    places = {"bundle": [request.bundle], "inputs": request.inputs, "output": [request.output]}
    for name, paths in (places | {"report": [request.report] if request.report else []}).items():
        for path in paths:
            if not is_object_store(path) and not os.path.isabs(path.removeprefix("file://")):
                raise InvalidRequest(
                    f"expected an absolute path, got '{path}' - at `$.{name}`;"
                    " the engine does not know the directory that it is relative to"
                )


def _too_many(waiting: int) -> Overloaded:
    error = Overloaded(
        f"{waiting} jobs wait already, as many as may (jobs.max_queued);"
        f" submit again in {RETRY_AFTER_S:.0f} s or later"
    )
    error.retry_after_s = RETRY_AFTER_S
    return error


def _is_published(output: str, told: Told | None) -> bool:
    """Whether an output holds the scores of a job, by what its process told before it ended."""
    if told is None:
        return False
    try:
        manifest = open_output(output).manifest()
    except TandemError:
        return False
    return manifest is not None and manifest.holds(told.runs_as)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else ""
