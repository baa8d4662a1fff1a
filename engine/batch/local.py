"""Runs units in this process, in threads: Parquet and kernels both leave the interpreter's lock.

Some threads read and write, a unit each; as many as there are cores score what was read, piece by
piece, whichever unit it is of. So all cores are busy up to the last unit, and reading goes on while
the model is still being loaded.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from functools import partial

import pyarrow as pa

from engine.batch.plan import Unit
from engine.batch.reading import Piece
from engine.batch.scoring import scorer_of
from engine.batch.work import Work, grouped, run_unit
from engine.errors import TandemError

MORE_READERS = 1
"""Units read beyond one per core, so that scoring never waits for a disk."""
AHEAD_BYTES = 1 << 26
"""Memory for rows that were read and are not written yet, of all units together.

Little, since it is memory touched for the first time: on a virtual machine that cost 1.2 s of a core per GB,
as much as decoding Parquet into it. Four times as much, and one more reader, took a job 1.04 to 1.16 times
the processor time.
"""


def run_local(work: Work, units: Sequence[Unit], *, threads: int) -> None:
    """Run units until all are committed or one fails, whose error is raised.

    Units under way when one fails are still committed: their work counts when the job resumes.

    Args:
        work: The job.
        units: What is left of it.
        threads: At most so many score at once.
    """
    pa.set_cpu_count(1)
    preload(work)
    readers = threads + MORE_READERS if threads > 1 else 1
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="score") as scoring,
        ThreadPoolExecutor(readers, thread_name_prefix="unit") as reading,
    ):
        score_all = partial(_score_ahead, scoring, AHEAD_BYTES // readers)
        futures = [reading.submit(run_unit, work, unit, "local", score_all) for unit in units]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            reading.shutdown(wait=True, cancel_futures=True)
    _raise_first(futures)


def preload(work: Work) -> None:
    """Start loading the model, beside the first reads; its errors come again where it is used."""

    def load() -> None:
        with contextlib.suppress(TandemError):
            scorer_of(work.plan.bundle, work.plan.revision, work.plan.device)

    threading.Thread(target=load, name="load").start()


def _score_ahead(
    scoring: Executor, most_bytes: int, work: Work, unit: Unit, tables: Iterable[tuple[Piece, pa.Table]]
) -> Iterator[tuple[int, pa.Table]]:
    """What ``Work.score_all`` gives, while at most so many bytes of later tables are read."""
    waiting: deque[tuple[int, int, Future[pa.Table]]] = deque()
    held_bytes = 0
    for group in grouped(work.parts(unit, tables)):
        waiting.append((group.rows, group.n_bytes, scoring.submit(work.score_group, group)))
        held_bytes += group.n_bytes
        while waiting and (held_bytes > most_bytes or waiting[0][2].done()):
            n_rows, n_bytes, scored = waiting.popleft()
            yield n_rows, scored.result()
            held_bytes -= n_bytes
    for n_rows, _, scored in waiting:
        yield n_rows, scored.result()


def _raise_first(futures: Sequence[Future[bool]]) -> None:
    for future in futures:
        if future.done() and not future.cancelled():
            future.result()
