"""``kill -9`` at every step of a job: each file-system operation in turn is the last one of its process.

    python -m tests.engine.batch.kill_matrix [--every 1] [--mode overwrite]

A driver is forked, and killed just before its k-th operation below the output's directory (creating,
linking, renaming or removing a file, exchanging directories), for k = 1, 2, … until one survives.
Then another driver calls the same job, and the output must be what an undisturbed run gives, row for
row, with nothing left beside it. No part of the engine is replaced: an audit hook of Python counts.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from engine.batch.job import score_files
from engine.batch.scoring import scorer_of
from engine.bundle import read_bundle
from engine.config import Batch
from tests.engine.batch.conftest import expected, make_bundle, rows, write

OPERATIONS = {"open", "os.link", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "ctypes.dlsym"}
N_ROWS = 350
OLD_ROWS = 50
Mode = Literal["error", "overwrite", "append"]
MODES: tuple[Mode, ...] = ("error", "overwrite", "append")


def main() -> None:
    """Run the whole matrix and print its table; the exit code is the number of failures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="kill at every n-th operation only")
    parser.add_argument("--mode", choices=MODES, help="one mode only")
    arguments = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory(prefix="tandem-kill-") as directory:
        for mode in [arguments.mode] if arguments.mode else MODES:
            killed, wrong = matrix(Path(directory) / mode, mode, every=arguments.every)
            failures += len(wrong)
            print(f"{mode:<10} killed at {killed} operations, {len(wrong)} wrong results {wrong or ''}")
    sys.exit(failures)


def matrix(root: Path, mode: Mode, *, every: int = 1, first: int = 1) -> tuple[int, list[str]]:
    """Kill a driver at every n-th operation; how many were killed, and what was wrong after resuming."""
    bundle = make_bundle(root / "bundles")
    scorer_of(bundle, read_bundle(bundle).revision)  # compiled here, inherited by every fork
    write(root / "data" / "a.parquet", rows(0, 250), row_group_rows=50)
    write(root / "data" / "b.parquet", rows(250, 100), row_group_rows=50)
    wrong: list[str] = []
    killed, operation = 0, first
    while True:
        place = root / str(operation)
        if mode != "error":
            in_fork(lambda place=place: score(bundle, root / "old", place / "out", "error"))
        died = in_fork(lambda place=place, n=operation: dying(n, place, bundle, root, mode))
        resumed = in_fork(lambda place=place: score(bundle, root / "data", place / "out", mode))
        if problem := "the second call failed" if resumed else differs(place, mode):
            wrong.append(f"{operation}: {problem}")
        if not died:
            return killed, wrong
        shutil.rmtree(place)
        killed, operation = killed + 1, operation + every


def score(bundle: str, data: Path, output: Path, mode: Mode) -> None:
    """The job under test: four units, one after the other."""
    if not data.exists():
        write(data / "old.parquet", rows(1000, OLD_ROWS))
    settings = Batch(runner="local", keep=("id",), unit_rows=100, threads=1, mode=mode)
    score_files(bundle, [str(data)], str(output), settings=settings)


def dying(n: int, place: Path, bundle: str, root: Path, mode: Mode) -> None:
    """Run the job and die before the n-th operation below ``place``."""
    left = n

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in OPERATIONS and concerns(event, arguments, str(place)):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    score(bundle, root / "data", place / "out", mode)


def concerns(event: str, arguments: tuple[object, ...], place: str) -> bool:
    """Whether an audit event changes something below a place (opening to read does not)."""
    if event == "ctypes.dlsym":
        return arguments[1] == "renameat2"
    if event == "open" and not int(arguments[2]) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):  # type: ignore[call-overload]
        return False
    return any(
        isinstance(a, str | bytes | os.PathLike) and os.fsdecode(a).startswith(place) for a in arguments
    )


def differs(place: Path, mode: Mode) -> str:
    """What is wrong with an output, empty if nothing is."""
    ids = [*range(N_ROWS), *(range(1000, 1000 + OLD_ROWS) if mode == "append" else ())]
    found = pq.read_table(place / "out").sort_by("id")
    if not found.equals(pa.table({"id": ids, "score": expected(ids)})):
        return f"expected {len(ids)} rows, found {found.num_rows} or other values"
    if beside := sorted(set(os.listdir(place)) - {"out"}):
        return f"left behind {beside}"
    return ""


def in_fork(action: Callable[[], None]) -> int:
    """Run an action in a fork of this process; its exit status, 0 if all went well."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


if __name__ == "__main__":
    main()
