"""Runs units in this process, one thread per core: Parquet and kernels both leave the interpreter's lock."""

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

import pyarrow as pa

from engine.batch.plan import Unit
from engine.batch.scoring import scorer_of
from engine.batch.work import Work, run_unit
from engine.errors import TandemError


def run_local(work: Work, units: Sequence[Unit], *, threads: int) -> None:
    """Run units until all are committed or one fails, whose error is raised.

    Units under way when one fails are still committed: their work counts when the job resumes.

    Args:
        work: The job.
        units: What is left of it.
        threads: At most so many at once.
    """
    pa.set_cpu_count(1)
    preload(work)
    with ThreadPoolExecutor(threads, thread_name_prefix="unit") as pool:
        futures = [pool.submit(run_unit, work, unit, "local") for unit in units]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    _raise_first(futures)


def preload(work: Work) -> None:
    """Start loading the model, beside the first reads; its errors come again where it is used."""

    def load() -> None:
        with contextlib.suppress(TandemError):
            scorer_of(work.plan.bundle, work.plan.revision, work.plan.device)

    threading.Thread(target=load, name="load").start()


def _raise_first(futures: Sequence[Future[bool]]) -> None:
    for future in futures:
        if future.done() and not future.cancelled():
            future.result()
