"""How far a job is, in rows, read from its done records: it survives a restart of the driver."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from engine.batch.output import open_output
from engine.batch.plan import Plan
from engine.batch.records import Records
from engine.errors import Conflict

POLL_S = 0.25
LINE_EVERY_S = 10.0


def rows_done(records: Records, plan: Plan) -> int:
    """Rows of the units that have a done record."""
    return sum(plan.units[index].rows for index in records.units_done())


def progress_at(output: str, job: str) -> tuple[int, int]:
    """Rows that a job has committed at an output, and rows in its plan; 0 and 0 before there is a plan."""
    place = open_output(output)
    try:
        published = place.manifest()
    except Conflict:
        return 0, 0
    if published is not None and published.holds(job):
        rows = sum(record.rows_in for record in published.jobs if record.job == job)
        return rows, rows
    if (found := Records.found(place.store(job))) is None:
        return 0, 0
    records, plan = found
    return rows_done(records, plan), plan.rows


@contextmanager
def shown(
    records: Records, plan: Plan, stream: TextIO | None = None, poll_s: float = POLL_S
) -> Iterator[None]:
    """Show the job's progress while the body runs: a bar on a terminal, else a line now and then."""
    stream = stream or sys.stderr
    stop = threading.Event()
    show = _show_bar if stream.isatty() else _show_lines
    thread = threading.Thread(target=show, args=(records, plan, stream, stop, poll_s), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def line(done: int, total: int, *, since_start: int, elapsed_s: float) -> str:
    """``2,000,000 of 10,000,000 rows (20 %), 1.90 M rows/s, 4 s left``.

    Args:
        done: Rows finished, by this driver or an earlier one.
        total: Rows of the job.
        since_start: Rows finished by this driver.
        elapsed_s: Seconds that this driver runs.
    """
    share = 100 * done // total if total else 100
    text = f"{done:,} of {total:,} rows ({share} %)"
    if not since_start or elapsed_s <= 0:
        return text
    rate = since_start / elapsed_s
    return f"{text}, {rate_in_words(rate)}, {(total - done) / rate:.0f} s left"


def rate_in_words(rows_per_s: float) -> str:
    """``1.90 M rows/s``, or ``4,200 rows/s`` where that many decimals would say little."""
    return f"{rows_per_s / 1e6:.2f} M rows/s" if rows_per_s >= 1e5 else f"{rows_per_s:,.0f} rows/s"


def _show_bar(records: Records, plan: Plan, stream: TextIO, stop: threading.Event, poll_s: float) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        "rows",
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(file=stream)) as progress:
        task = progress.add_task("", total=plan.rows, completed=rows_done(records, plan))
        _until(stop, poll_s, lambda: progress.update(task, completed=rows_done(records, plan)))


def _show_lines(records: Records, plan: Plan, stream: TextIO, stop: threading.Event, poll_s: float) -> None:
    started, first = time.monotonic(), rows_done(records, plan)

    def say() -> None:
        done = rows_done(records, plan)
        print(
            line(done, plan.rows, since_start=done - first, elapsed_s=time.monotonic() - started), file=stream
        )

    _until(stop, max(LINE_EVERY_S, poll_s), say)


def _until(stop: threading.Event, every_s: float, action: Callable[[], None]) -> None:
    while not stop.wait(every_s):
        action()
    action()
