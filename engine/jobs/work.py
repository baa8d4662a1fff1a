"""The process of one job: ``python -m engine.jobs.work JOB REQUEST``, REQUEST being JSON.

Progress goes to stderr (the job's log); stdout takes lines of JSON for the engine, each a ``Told``: the id
that the job has at the output once it scores, and the result. It ends itself when the engine that started
it is gone; what it has committed stays.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.errors import TandemError
from engine.jobs.job import JobRequest, Told

if TYPE_CHECKING:
    from engine.batch.job import Result
    from engine.batch.plan import Plan
    from engine.batch.records import Records

NICENESS = 19
"""Below the replicas that answer requests on the same cores."""
WATCH_S = 0.5


def main(job: str, request: bytes) -> int:
    """Run one job; returns the exit status."""
    os.nice(NICENESS)
    _end_with(os.getppid())
    tell = _voice()
    try:
        _score(job, msgspec.json.decode(request, type=JobRequest), tell)
    except TandemError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 the log
        return 2
    except KeyboardInterrupt:
        print("stopped; what is committed stays for a resume", file=sys.stderr)  # noqa: T201 the log
        return 130
    return 0


def _score(job: str, request: JobRequest, tell: Callable[[Told], None]) -> None:
    from engine.batch.job import score_files
    from engine.batch.progress import rows_done, shown

    @contextmanager
    def told_and_shown(records: "Records", plan: "Plan") -> Iterator[None]:
        tell(Told(plan.job, rows_done(records, plan)))
        with shown(records, plan):
            yield

    result = score_files(
        request.bundle, request.inputs, request.output,
        settings=request.settings, job=job, restart=request.restart, show=told_and_shown,
    )  # fmt: skip
    if request.report and result.done:
        _report(result, Path(request.report))
    tell(Told(result.job, result.record.rows_in if result.attached else None, result.summary))


def _voice() -> Callable[[Told], None]:
    """What writes to the engine; whatever else a library or a child process prints goes to the log."""
    engine = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(told: Told) -> None:
        engine.write(msgspec.json.encode(told) + b"\n")

    return tell


def _report(result: "Result", page: Path) -> None:
    from engine.batch.report import write_report

    try:
        write_report(result, page)
    except OSError as error:  # the scores are there all the same
        print(f"the page was not written: {error}", file=sys.stderr)  # noqa: T201 the log


def _end_with(parent: int) -> None:
    """Interrupt this process once its parent is another one."""

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(WATCH_S)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2].encode()))
