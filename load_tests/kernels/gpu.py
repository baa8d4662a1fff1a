"""``python -m load_tests.kernels.gpu``: the CUDA twins of forest kernels beside the CPU kernel, on a GPU.

Each twin must have the CPU's bits before it is timed. Times take in the way to the device and back,
as a caller has it: columns in, margins out. The CPU kernel runs on one core.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.backends.forest import FILE
from engine.bundle import read_bundle
from kernels.forests.binning import Unsuited
from kernels.forests.choice import ForestKernel, choose
from kernels.forests.forest import Forest
from kernels.gpu.crossover import call_s
from kernels.gpu.device import gpu_is_available
from load_tests.kernels import models

SIZES = (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1_000_000)
MODELS = (
    "100x31-30",
    "500x31-30",
    "500x63-30",
    "xgboost-500-depth6",
    "catboost-500-depth6",
    "forest-100x1215",
)
ROUNDS = 5

Times = dict[str, dict[int, float]]
"""Seconds a call takes, by kernel and number of rows."""


class DifferentBits(Exception):
    """A twin does not compute what the CPU does."""


def main() -> int:
    """Measure the models asked for and print a table of each; 1 without a GPU or with other bits."""
    options = _options()
    if not gpu_is_available():
        print("this benchmark needs a GPU, and CUDA finds none here", file=sys.stderr)
        return 1
    for name in options.models:
        model = models.load(name)
        bundle = Path(model.bundle)
        forest = Forest.of_arrays(read_bundle(bundle).arrays(FILE))
        try:
            times = measured(forest, np.load(model.rows, mmap_mode="r"), options.sizes)
        except DifferentBits as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        print(table(name, times), flush=True)
    return 0


def measured(forest: Forest, rows: NDArray[np.float32], sizes: Sequence[int]) -> Times:
    """The times of the CPU kernel, which comes first, and of each twin that takes the forest.

    Kernels take turns; the best of ROUNDS calls counts. Raises ``DifferentBits`` if a twin's bits differ.
    """
    kernels = [choose(forest, np.float32), *_twins(forest)]
    times: Times = {kernel.name: {} for kernel in kernels}
    for n_rows in sizes:
        columns = [np.ascontiguousarray(rows[:n_rows, feature]) for feature in range(forest.n_features)]
        out = np.empty((n_rows, forest.n_outputs), np.float32 if forest.single else np.float64)
        kernels[0].score_columns(columns, out)
        expected = out.tobytes()
        for kernel in kernels[1:]:
            kernel.score_columns(columns, out)
            if out.tobytes() != expected:
                raise DifferentBits(f"{kernel.name} differs from {kernels[0].name} at {n_rows:,} rows")
        for kernel in kernels * ROUNDS:
            seconds = call_s(kernel, columns, out)
            times[kernel.name][n_rows] = min(seconds, times[kernel.name].get(n_rows, np.inf))
    return times


def crossover(cpu_s: Mapping[int, float], gpu_s: Mapping[int, float]) -> int | None:
    """The smallest number of rows from which on the GPU was faster; ``None`` if it was not at the largest."""
    found = None
    for n_rows in sorted(cpu_s, reverse=True):
        if gpu_s[n_rows] >= cpu_s[n_rows]:
            break
        found = n_rows
    return found


def table(model: str, times: Times) -> str:
    """The times in Markdown: ns per row, and from how many rows on a twin was faster."""
    (cpu, cpu_s), *twins = times.items()
    lines = [
        f"| {model}: ns per row | {' | '.join(f'{n:,} rows' for n in cpu_s)} | faster from |",
        "|---" * (len(cpu_s) + 2) + "|",
        f"| {cpu} | {_cells(cpu_s)} | |",
    ]
    for name, gpu_s in twins:
        start = crossover(cpu_s, gpu_s)
        lines.append(f"| {name} | {_cells(gpu_s)} | {'never' if start is None else f'{start:,} rows'} |")
    return "\n".join(lines)


def _cells(seconds: Mapping[int, float]) -> str:
    return " | ".join(f"{1e9 * s / n:,.1f}" for n, s in seconds.items())


def _twins(forest: Forest) -> list[ForestKernel]:
    from kernels.gpu.interval_masks import GpuIntervalMasks
    from kernels.gpu.traversal import GpuTraversal

    try:
        return [GpuIntervalMasks(forest, np.float32), GpuTraversal(forest)]
    except Unsuited:
        return [GpuTraversal(forest)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=list(models.RECIPES), default=MODELS, metavar="NAME")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="ROWS", help="rows per call")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
