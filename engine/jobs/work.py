"""The process of one job: ``python -m engine.jobs.work JOB REQUEST``, REQUEST being JSON.

Progress goes to stderr (the job's log), the result to stdout as one sentence. It ends itself when
the engine that started it is gone; what it has committed stays.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.errors import TandemError
from engine.jobs.job import JobRequest

if TYPE_CHECKING:
    from engine.batch.job import Result

NICENESS = 19
"""Below the replicas that answer requests on the same cores."""
WATCH_S = 0.5


def main(job: str, request: bytes) -> int:
    """Run one job; returns the exit status."""
    os.nice(NICENESS)
    _end_with(os.getppid())
    wanted = msgspec.json.decode(request, type=JobRequest)
    try:
        print(_score(job, wanted))  # noqa: T201 the result
    except TandemError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 the log
        return 2
    except KeyboardInterrupt:
        print("stopped; what is committed stays for a resume", file=sys.stderr)  # noqa: T201 the log
        return 130
    return 0


def _score(job: str, request: JobRequest) -> str:
    from engine.batch.job import score_files
    from engine.batch.progress import shown

    result = score_files(
        request.bundle, request.inputs, request.output,
        settings=request.settings, job=job, restart=request.restart, show=shown,
    )  # fmt: skip
    if request.report and result.done:
        _report(result, Path(request.report))
    return result.summary


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
