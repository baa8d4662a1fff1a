"""``make bench-batch``: scoring Parquet here, with stock Ray Data, and with hand-written pipelines.

    python -m load_tests.batch [--rows 10000000] [--files 10] [--rounds 3] [--quick] [--json FILE]
    python -m load_tests.batch --small-files 1000   # the same rows in so many files, and in one
    python -m load_tests.batch --memory-times 10 --only ours-local-cold   # peak memory of more rows

Every contender runs in a process of its own; the rounds are interleaved, the median counts. Before
any time is taken, all contenders' scores are compared with each other on the same rows. Peak memory is
that of one more round, for whoever watches it takes a good part of a core.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from load_tests.batch.data import Inputs, make_inputs, repeated
from load_tests.batch.ways import WAYS as FUNCTIONS

CACHE = Path(".cache/bench-batch")
OUTPUTS = CACHE / f"outputs-{os.getpid()}"
CLOSE = 1e-5
"""Contenders score in float32; they agree to this."""
SAMPLE_S = 0.05
COMMAND_LINE = "ours-local-cold"
"""The way that is ``tandem score`` itself, and so no function of ``ways``."""
WAYS = (*FUNCTIONS, COMMAND_LINE)
COLD = {
    COMMAND_LINE,
    "two-processes-onnx",
    "two-processes-lightgbm",
    "polars-streaming",
    "read-and-write",
}
"""Ways whose whole process counts, from its start to its end."""


def main() -> None:
    """Make the inputs, check the contenders against each other, time them, print the table."""
    arguments = _arguments()
    rows = 1_000_000 if arguments.quick else arguments.rows
    if arguments.small_files:
        print(small_files(rows, arguments.small_files, arguments.rounds))
        return
    inputs = make_inputs(CACHE, rows, arguments.files)
    ways = [way for way in WAYS if not arguments.only or way in arguments.only.split(",")]
    if arguments.memory_times:
        for way in ways:
            print(memory(way, inputs, arguments.memory_times), flush=True)
        return
    check = make_inputs(CACHE, 100_000, 2)
    check_scores(check, ways)
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(1 if arguments.quick else arguments.rounds):
        for way in ways:
            runs[way].append(run(way, inputs))
            print(f"{way}: {runs[way][-1]}", file=sys.stderr)
    results = {way: summary(way, found, rows) for way, found in runs.items()}
    for way in () if arguments.quick else ways:
        results[way]["peak_bytes"] = run(way, inputs, watch_memory=True)["peak_bytes"]
    shutil.rmtree(OUTPUTS)
    print(table(results, rows))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"rows": rows, "ways": results}, indent=2))


def small_files(rows: int, n_files: int, rounds: int) -> str:
    """What many small files cost the local runner, beside one file with the same rows."""
    many, one = make_inputs(CACHE, rows, n_files), make_inputs(CACHE, rows, 1)
    pairs = [[run("ours-local-cold", inputs)["total_s"] for inputs in (many, one)] for _ in range(rounds)]
    shutil.rmtree(OUTPUTS)
    many_s, one_s = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return f"{rows:,} rows: {n_files:,} files {many_s:.2f} s, one {one_s:.2f} s; {ratio:.2f} × (goal 1.5 ×)"


def memory(way: str, inputs: Inputs, times: int) -> str:
    """The peak memory of a way, and its peak with so many times the rows."""
    many = repeated(inputs, times)
    few_bytes, many_bytes = (run(way, found, watch_memory=True)["peak_bytes"] for found in (inputs, many))
    shutil.rmtree(OUTPUTS)
    return (
        f"{way}: {few_bytes / 1e6:,.0f} MB at {inputs.rows:,} rows,"
        f" {many_bytes / 1e6:,.0f} MB at {many.rows:,}; {many_bytes / few_bytes:.2f} ×"
    )


def run(way: str, inputs: Inputs, *, watch_memory: bool = False) -> dict[str, Any]:
    """Run one way; its seconds, and the peak memory of all its processes where that is watched."""
    output = OUTPUTS / way
    shutil.rmtree(output, ignore_errors=True)
    OUTPUTS.mkdir(exist_ok=True)
    subprocess.run(["sync"], check=True)
    begun = time.perf_counter()
    process = subprocess.Popen(
        command(way, inputs, output.absolute()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peak = {"peak_bytes": _peak_bytes(process)} if watch_memory else {}
    stdout, stderr = process.communicate()
    total_s = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"{way} failed:\n{stderr}")
    told = {} if way == COMMAND_LINE else json.loads(stdout.splitlines()[-1])
    return {**told, "total_s": total_s, **peak}


def command(way: str, inputs: Inputs, output: Path) -> list[str]:
    """The command line of one way."""
    bundle, data = str(inputs.bundle.absolute()), str(inputs.data.absolute())
    if way == COMMAND_LINE:
        options = ["-i", data, "-o", str(output), "--runner", "local", "--keep", "id"]
        return [sys.executable, "-m", "engine.cli", "score", bundle, *options]
    return [sys.executable, "-m", "load_tests.batch.ways", way, str(inputs.onnx), bundle, data, str(output)]


def check_scores(inputs: Inputs, ways: list[str]) -> None:
    """All ways must agree on the same rows before any is timed."""
    found: dict[str, np.ndarray] = {}
    for way in ways:
        if way != "read-and-write":
            run(way, inputs)
            found[way] = pq.read_table(OUTPUTS / way).sort_by("id").column("score").to_numpy()
    first = next(iter(found), None)
    for way, scores in found.items():
        if len(scores) != inputs.rows or np.abs(scores - found[first]).max() > CLOSE:  # type: ignore[index]
            raise SystemExit(f"{way} does not agree with {first}")


def summary(way: str, runs: list[dict[str, Any]], rows: int) -> dict[str, Any]:
    """Medians over the rounds of one way."""
    names = sorted({name for found in runs for name in found})
    medians = {name: statistics.median(found[name] for found in runs) for name in names}
    seconds = medians["total_s" if way in COLD else "job_s"]
    return {**medians, "seconds": seconds, "rows_per_s": rows / seconds}


def table(results: dict[str, dict[str, Any]], rows: int) -> str:
    """The results for people, and the ratios that the engine promises."""
    lines = [f"{rows:,} rows × 23 float32 + id", f"{'way':<22}{'s':>8}{'Mrows/s':>10}{'peak MB':>10}"]
    for way, found in results.items():
        peak = f"{found['peak_bytes'] / 1e6:.0f}" if "peak_bytes" in found else "–"
        lines.append(f"{way:<22}{found['seconds']:>8.2f}{found['rows_per_s'] / 1e6:>10.2f}{peak:>10}")
    for ours in ("ours-local-cold", "ours-ray-warm"):
        for other, goal in (("stock-ray-data", 12.0), ("two-processes-onnx", 4.0), ("read-and-write", 0.75)):
            if ours in results and other in results:
                ratio = results[ours]["rows_per_s"] / results[other]["rows_per_s"]
                lines.append(f"{ours} / {other}: {ratio:.2f} × (goal {goal} ×)")
    if "ours-ray-warm" in results:
        found = results["ours-ray-warm"]
        lines.append(
            f"a cold Ray costs {found['cluster_s']:.1f} s to start,"
            f" and {found['first_job_s'] - found['job_s']:.1f} s more in its first job"
        )
    return "\n".join(lines)


def _peak_bytes(process: "subprocess.Popen[str]") -> int:
    """Largest sum of private memory over the process and its children; Ray's own processes not counted."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_private_bytes(found) for found in _family(process.pid)))
        time.sleep(SAMPLE_S)
    return peak


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _private_bytes(process: psutil.Process) -> int:
    try:
        if process.name() in {"gcs_server", "raylet"} or "ray/dashboard" in " ".join(process.cmdline()):
            return 0
        return int(process.memory_full_info().uss)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a million rows, one round, no memory")
    parser.add_argument(
        "--small-files", type=int, default=0, help="compare so many files with one, and nothing else"
    )
    parser.add_argument(
        "--memory-times", type=int, default=0, help="compare peak memory with that of so many times the rows"
    )
    parser.add_argument("--only", default="", help=f"some of {', '.join(WAYS)}")
    parser.add_argument("--json", default="", help="write the figures to a file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
