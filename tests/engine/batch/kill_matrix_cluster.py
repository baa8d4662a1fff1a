"""``kill -9`` at every step of a job on Ray: of the worker that is at it, of its raylet, of the driver.

    python -m tests.engine.batch.kill_matrix_cluster [--every 1] [--who worker]

The victim dies just before the k-th file-system operation of one of its processes below the output's
directory, for k = 1, 2, … until one survives. A job goes on by itself without a worker; without a raylet
or a driver it is called again. Then the output must be what an undisturbed run gives, row for row, with
nothing left beside it. No part of the engine is replaced: an audit hook of Python counts.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from engine import ray_compat
from engine.batch.job import score_files
from engine.config import Batch
from engine.errors import TandemError
from tests.engine.batch.conftest import expected, make_bundle, rows, write
from tests.engine.batch.faults import SOON_MISSED
from tests.engine.batch.kill_matrix import OPERATIONS, concerns

N_ROWS = 300
LIMIT_S = 240.0
Who = Literal["worker", "raylet", "driver"]
REPOSITORY = Path(__file__).parents[3]
HOOK = "tests.engine.batch.kill_matrix_cluster.arm_worker"
PLACE = re.compile(r"(?P<root>.*)/kill-(?P<who>[a-z]+)-(?P<step>\d+)/")
"""An output's directory says who is to die at which operation."""


def main() -> None:
    """Run the whole matrix and print its table; the exit code is the number of failures."""
    if sys.argv[1:2] == ["drive"]:
        sys.exit(drive(*sys.argv[2:]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="kill at every n-th operation only")
    parser.add_argument("--who", choices=get_args(Who), help="one kind of victim only")
    arguments = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory(prefix="tandem-kill-") as directory:
        for who in [arguments.who] if arguments.who else get_args(Who):
            killed, wrong = matrix(Path(directory), who, every=arguments.every)
            failures += len(wrong)
            print(
                f"{who:<10} killed at {killed} operations, {len(wrong)} wrong results {wrong or ''}",
                flush=True,
            )
    sys.exit(failures)


def matrix(root: Path, who: Who, *, every: int = 1) -> tuple[int, list[str]]:
    """Kill a process at every n-th operation; how many were killed, and what was wrong in the end."""
    bundle, data = make_bundle(root / "bundles"), root / "data"
    write(data / "a.parquet", rows(0, 200))
    write(data / "b.parquet", rows(200, 100))
    wrong: list[str] = []
    killed, step = 0, 1
    with contextlib.nullcontext() if who == "raylet" else cluster():
        while True:
            output = root / f"kill-{who}-{step}" / "out"
            output.parent.mkdir()
            if problem := KILLS[who](bundle, data, output) or differs(output):
                wrong.append(f"{step}: {problem}")
            if not mark(root, who, step).exists():
                return killed, wrong
            killed, step = killed + 1, step + every


def without_worker(bundle: str, data: Path, output: Path) -> str:
    """The job goes on by itself; what is wrong if it does not."""
    try:
        score(bundle, data, output, "ray")
    except TandemError as error:
        return f"the job did not go on: {error}"
    return ""


def without_driver(bundle: str, data: Path, output: Path) -> str:
    """A driver of its own dies; another one calls the job again on the same cluster."""
    command = [sys.executable, "-m", "tests.engine.batch.kill_matrix_cluster", "drive", bundle]
    address = ray.get_runtime_context().gcs_address
    subprocess.run(
        [*command, str(data), str(output), "driver"],
        env=os.environ | {"RAY_ADDRESS": address}, capture_output=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    return without_worker(bundle, data, output)


def without_raylet(bundle: str, data: Path, output: Path) -> str:
    """The node of a cluster of its own dies, and so does its driver; the job is called again without one."""
    command = [sys.executable, "-m", "tests.engine.batch.kill_matrix_cluster", "drive", bundle]
    process = subprocess.Popen(
        [*command, str(data), str(output), "worker"],
        env=os.environ | SOON_MISSED, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        for left in ray_processes(output.parent):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
    try:
        score(bundle, data, output, "local")
    except TandemError as error:
        return f"the second call failed: {error}"
    return ""


KILLS = {"worker": without_worker, "raylet": without_raylet, "driver": without_driver}


def drive(bundle: str, data: str, output: str, armed: str) -> int:
    """A driver as a process of its own, with a cluster of its own or the one at ``RAY_ADDRESS``."""
    if armed == "driver":
        arm(("driver",))
    with cluster():
        score(bundle, Path(data), Path(output), "ray")
    return 0


@contextmanager
def cluster() -> Iterator[None]:
    """Ray, with workers that may be victims: a new one, or the one at ``RAY_ADDRESS``."""
    ray_compat.prepare()
    options = {} if "RAY_ADDRESS" in os.environ else ray_compat.local_cluster_options()
    hooked = {"worker_process_setup_hook": HOOK, "env_vars": {"PYTHONPATH": str(REPOSITORY)}}
    ray.init(**{"log_to_driver": False, "logging_level": "ERROR", **options, "runtime_env": hooked})
    try:
        yield
    finally:
        ray.shutdown()


def ray_processes(place: Path) -> list[psutil.Process]:
    """What is left of the cluster whose driver was started for a place."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(place) in " ".join(process.environ().values()):
                found.append(process)
    return found


def arm_worker() -> None:
    """Make this process of Ray count its operations."""
    arm(("worker", "raylet"))


def arm(victims: tuple[str, ...]) -> None:
    """Make this process count its operations for outputs where such a victim is to die."""
    counts: Counter[str] = Counter()

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event not in OPERATIONS:
            return
        for place in {match[0]: match for match in map(PLACE.match, map(str, arguments)) if match}.values():
            if place["who"] in victims and concerns(event, arguments, place[0]):
                counts[place[0]] += 1
                if counts[place[0]] == int(place["step"]):
                    strike(Path(place["root"]), place["who"], int(place["step"]))

    sys.addaudithook(count)


def strike(root: Path, who: str, step: int) -> None:
    """Kill the victim, unless it was killed before."""
    try:
        mark(root, who, step).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getppid() if who == "raylet" else os.getpid(), signal.SIGKILL)


def mark(root: Path, who: str, step: int) -> Path:
    """The file that says that somebody was killed."""
    return root / f"killed-{who}-{step}"


def score(bundle: str, data: Path, output: Path, runner: Literal["local", "ray"]) -> None:
    """The job under test: three units."""
    settings = Batch(runner=runner, keep=("id",), unit_rows=100, threads=1)
    score_files(bundle, [str(data)], str(output), settings=settings)


def differs(output: Path) -> str:
    """What is wrong with an output, empty if nothing is."""
    if not output.exists():
        return "there is no output"
    found = pq.read_table(output).sort_by("id")
    if not found.equals(pa.table({"id": range(N_ROWS), "score": expected(range(N_ROWS))})):
        return f"expected {N_ROWS} rows, found {found.num_rows} or other values"
    beside = sorted(set(os.listdir(output.parent)) - {output.name})
    return f"left behind {beside}" if beside else ""


if __name__ == "__main__":
    main()
