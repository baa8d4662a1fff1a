"""What may befall a job beside the death of its driver: each fault in turn, then the job called again.

    python -m tests.engine.batch.faults [--only NAME …]

After each the output must be what an undisturbed run gives, row for row, with nothing left beside
it. No part of the engine is replaced: processes are killed, a disk is full, clocks are wrong.
"""

import argparse
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from engine.batch.output import open_output
from engine.batch.records import Records
from engine.batch.work import make_work
from engine.bundle import read_bundle
from engine.config import Batch
from engine.errors import JobChanged
from tests.engine.batch import driver
from tests.engine.batch.conftest import attempt, begin, expected, hidden, make_bundle, rows, write
from tests.waiting import wait_until

N_ROWS = 20_000
N_ROWS_ON_RAY = 6_000
LIMIT_S = 240.0
YEAR_S = 366 * 24 * 3600
SOON_MISSED = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
}
"""Ray's own patience with a node that is silent is half a minute."""
FAKETIME = "/usr/lib/*/faketime/libfaketime.so.1"
FAKED = {
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    # With the library's other way to wait until a deadline, a driver takes six times as long.
    "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    "NO_FAKE_STAT": "1",
}


class Job:
    """A job of many small units, and the processes that drive it."""

    def __init__(self, root: Path, n_rows: int = N_ROWS) -> None:
        self.bundle, self.data, self.output = (
            make_bundle(root / "bundles"),
            root / "data",
            root / "to" / "out",
        )
        self.n_rows = n_rows
        write(self.data / "a.parquet", rows(0, n_rows))
        self.output.parent.mkdir()

    def start(self, runner: str = "local", **environment: str) -> "subprocess.Popen[str]":
        """A driver, running."""
        command = [sys.executable, "-m", "tests.engine.batch.driver", self.bundle]
        command += [str(self.data), str(self.output), runner]
        return subprocess.Popen(
            command,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, **environment: str) -> tuple[int, str]:
        """A driver's exit status and what it wrote."""
        process = self.start(**environment)
        told, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, told

    def under_way(self, process: "subprocess.Popen[str]") -> None:
        """Return once a driver has committed its first units."""

        def has_begun() -> list[str]:
            if process.poll() is not None:
                raise AssertionError(f"the driver ended before its first unit: {process.communicate()[0]}")
            return glob.glob(f"{hidden(self.output)}/*/done/*/*.json")

        wait_until(has_begun, LIMIT_S, every_s=0.002)

    def problem(self) -> str:
        """What is wrong with the output, empty if nothing is."""
        found = pq.read_table(self.output).sort_by("id")
        ids = range(self.n_rows)
        if not found.equals(pa.table({"id": ids, "score": expected(ids)})):
            return f"expected {self.n_rows} rows, found {found.num_rows} or other values"
        beside = sorted(set(os.listdir(self.output.parent)) - {self.output.name})
        return f"left behind {beside}" if beside else ""

    def resumed(self) -> str:
        """Call the job again, undisturbed; what is wrong then."""
        status, told = self.run()
        return f"the second call failed: {told}" if status else self.problem()


def two_drivers(root: Path) -> str:
    """Two drivers at once; the one at work is killed, the one that waits finishes."""
    job = Job(root)
    first = job.start()
    job.under_way(first)
    second = job.start()
    first.kill()
    first.communicate()
    told, _ = second.communicate(timeout=LIMIT_S)
    return f"the second driver failed: {told}" if second.returncode else job.problem()


def disk_full(root: Path) -> str:
    """The output's disk has no room: a sentence says so, and with room the job goes on."""
    job = Job(root, 2000)
    with small_disk(job.output.parent) as make_room:
        status, told = job.run()
        if status != 2 or "cannot write" not in told or "resumes when it is called again" not in told:
            return f"expected an error that says what to do, got status {status}: {told}"
        make_room()
        return job.resumed()


@contextmanager
def small_disk(place: Path) -> Iterator[Callable[[], int]]:
    """A disk of a few pages at a place; gives what enlarges it."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "none", place], check=True)
    try:
        yield lambda: subprocess.check_call(["mount", "-o", "remount,size=64m", place])
    finally:
        subprocess.run(["umount", place], check=True)


def may_mount() -> bool:
    """Whether this process may mount a disk."""
    with tempfile.TemporaryDirectory() as place:
        try:
            with small_disk(Path(place)):
                return True
        except (subprocess.CalledProcessError, OSError):
            return False


def clock_jumps(root: Path) -> str:
    """The clock of the driver that dies is years ahead, of the next one years behind; so are the files."""
    job = Job(root)
    odd = time.time() + 20 * YEAR_S
    os.utime(job.data / "a.parquet", (odd, odd))
    process = job.start(**clock_off_by(3000))
    job.under_way(process)
    process.kill()
    process.communicate()
    for record in glob.glob(f"{hidden(job.output)}/**/*", recursive=True):
        os.utime(record, (odd, odd))
    status, told = job.run(**clock_off_by(-3000))
    return f"the second call failed: {told}" if status else job.problem()


def clock_off_by(days: int) -> dict[str, str]:
    """The environment of a driver whose clock is wrong: all of it with libfaketime, else Python's."""
    if library := next(iter(glob.glob(FAKETIME)), ""):
        return {"LD_PRELOAD": library, **FAKED, "FAKETIME": f"{days:+d}d"}
    return {driver.CLOCK_OFF_BY: str(86_400 * days)}


def zombie_attempt(root: Path) -> str:
    """An attempt that nobody waits for any more finishes after the job was published."""
    job = Job(root, 300)
    settings = Batch(runner="local", keep=("id",), unit_rows=driver.UNIT_ROWS, threads=1)
    plan = begin(job.bundle, job.data, job.output, settings, n_units=1)
    store = open_output(str(job.output)).store(plan.job)
    work = make_work(plan, Records.of(store, plan), read_bundle(job.bundle).manifest.schema)
    late = attempt(work, 1)
    if problem := job.resumed():
        return problem
    try:
        late.commit()
    except JobChanged:
        late.abort()
        return job.problem()
    return "the late attempt was committed"


def worker_killed(root: Path) -> str:
    """A worker of Ray dies at its task; the job goes on by itself."""
    return on_cluster(root, "ray::ReadUnits", "ray::IDLE")


def raylet_killed(root: Path) -> str:
    """The cluster's node dies under its driver: Ray ends the driver, saying so."""
    return on_cluster(root, "raylet", last_words="Raylet is terminated", **SOON_MISSED)


def on_cluster(root: Path, *names: str, last_words: str = "", **environment: str) -> str:
    """Kill the processes of a driver's own cluster whose names begin so, then call the job again.

    The driver must go on by itself, unless it may end with some last words.
    """
    job = Job(root, N_ROWS_ON_RAY)
    process = job.start("ray", **environment)
    cluster: list[psutil.Process] = []
    try:
        job.under_way(process)
        cluster = psutil.Process(process.pid).children(recursive=True)
        for found in [found for found in cluster if _is_called(found, names)]:
            found.kill()
        told, _ = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        for found in cluster:
            if found.is_running():
                found.kill()
    if process.returncode and not (last_words and last_words in told):
        return f"the driver ended with status {process.returncode}: {told[-2000:]}"
    return job.resumed()


def _is_called(process: psutil.Process, names: tuple[str, ...]) -> bool:
    try:
        return process.name().startswith(names)
    except psutil.NoSuchProcess:
        return False


QUICK: dict[str, Callable[[Path], str]] = {
    function.__name__: function for function in (two_drivers, disk_full, clock_jumps, zombie_attempt)
}
ON_RAY: dict[str, Callable[[Path], str]] = {
    function.__name__: function for function in (worker_killed, raylet_killed)
}


def main() -> None:
    """Run every fault and print the table; the exit code is the number of failures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=[*QUICK, *ON_RAY], help="some faults only")
    only = parser.parse_args().only
    failures = 0
    for name, fault in (QUICK | ON_RAY).items():
        if only and name not in only:
            continue
        if fault is disk_full and not may_mount():
            print(f"{name:<16} not tried: this user may not mount a disk")
            continue
        root = Path(tempfile.mkdtemp(prefix="tandem-fault-"))
        begun = time.perf_counter()
        problem = fault(root)
        shutil.rmtree(root)
        failures += bool(problem)
        print(f"{name:<16} {time.perf_counter() - begun:6.1f} s  {problem or 'every row once'}", flush=True)
    sys.exit(failures)


if __name__ == "__main__":
    main()
