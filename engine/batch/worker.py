"""A process that scores units for a parent: whatever a foreign model does to it, the parent lives.

Started by ``supervised`` as ``python -m engine.batch.worker FD``; speaks over that pipe only.
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from threading import Lock

import pyarrow as pa

from engine.batch.isolation import rows_between
from engine.batch.records import Records
from engine.batch.work import Work, run_unit, work_of
from engine.errors import TandemError


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    pipe = Connection(int(sys.argv[1]))
    pa.set_cpu_count(1)
    while True:
        try:
            request, *arguments = pipe.recv()
        except EOFError:
            return
        ANSWERS[request](pipe, *arguments)


def run_units(pipe: Connection, records: Records, indices: Sequence[int], threads: int) -> None:
    """Commit units; says which one starts and which is done, then ``end``."""
    sending = Lock()

    def say(*event: object) -> None:
        with sending:
            pipe.send(event)

    try:
        work = work_of(records)
    except TandemError as error:
        say("error", error)
        say("end")
        return

    def run(index: int) -> None:
        say("start", index)
        try:
            run_unit(work, work.plan.units[index], "local, in a process of its own")
        except TandemError as error:
            say("error", error)
        else:
            say("done", index)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, indices))
    say("end")


def probe(pipe: Connection, records: Records, index: int, start: int, stop: int) -> None:
    """Read and score rows ``start`` to ``stop`` of a unit, for the sake of surviving it; then ``end``."""
    work: Work = work_of(records)
    for piece, table in rows_between(work.read(work.plan.units[index]), start, stop):
        work.survives(table, piece)
    pipe.send(("end",))


ANSWERS: dict[str, Callable[..., None]] = {"units": run_units, "probe": probe}
"""What the parent may ask for."""


if __name__ == "__main__":
    main()
