"""``make bench-kernels``: forest kernels against other libraries, on one core.

Each contender runs in its own process and, where it needs one, its own environment. Before it is
timed its margins are compared with those of the library that trained the model. Rounds go through
all contenders in turn; a ratio is the median over rounds of what was measured side by side.
Tables go to stdout, one JSON object per measurement to ``--json``, progress to stderr.
"""

import argparse
import contextlib
import os
import platform
import statistics
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from engine.pages.machine import processor
from load_tests.environments import CACHE, PeerUnavailable
from load_tests.kernels import counts
from load_tests.kernels import models as kernel_models
from load_tests.kernels.contender import Worker
from load_tests.kernels.models import Model
from load_tests.kernels.tables import Measurement, is_ours, summary, table

OWN = ("tandem", "tandem-columns", "tandem-dict")
SIZES = (1, 8, 64, 32_768, 1_000_000)
QUICK_SIZES = (1, 64, 32_768)
COUNTED = ("500x31-30",)
COUNTED_SIZES = (1, 64, 32_768)
N_CHECKED_IN_BATCH = 64
LIBRARIES = {
    "lightgbm": (
        *OWN,
        "lightgbm",
        "lightgbm-single",
        "onnxruntime",
        "lleaves",
        "tl2cgen",
        "daal4py",
        "daal4py-single",
    ),
    "xgboost": (*OWN, "xgboost", "onnxruntime", "tl2cgen", "daal4py-single"),
    "catboost": (*OWN, "catboost", "onnxruntime"),
    "sklearn": (*OWN, "sklearn", "onnxruntime"),
    "pipeline": ("tandem-folded", "sklearn-pipeline"),
    "linear": ("tandem-linear", "numpy", "polars", "onnxruntime-linear"),
}
"""Who can score a model, by the library that trained it; the first is what others are compared with."""
LEAST_ROWS = {"linear": 1024}
"""Columns are for many rows."""
LONG_CALL_NS = 3e9
"""A contender whose single call takes longer is measured in the first round only."""


class Machine(msgspec.Struct, frozen=True):
    """Where and how it was measured."""

    machine: str
    python: str
    n_cpus: int
    core: int
    command: str


def compare(
    model: Model, sizes: Collection[int], libraries: Iterable[str], options: argparse.Namespace
) -> list[Measurement]:
    """Measure all contenders on a model; those that fail are named on stderr and left out."""
    measurements = []
    with contextlib.ExitStack() as stack:
        workers = [w for name in libraries if (w := _started(name, model, sizes, options, stack))]
        for n_rows in [n for n in sizes if n >= LEAST_ROWS.get(model.kind, 1)]:
            able = [worker for worker in workers if n_rows <= worker.ready.most_rows]
            times = _rounds(able, n_rows, options)
            for lost in [worker for worker in workers if worker.exit_code is not None]:
                _progress(f"{model.name}: without {lost.library}: it ended with code {lost.exit_code}")
                workers.remove(lost)
            measurements += [_measurement(worker, n_rows, times) for worker in able if worker in workers]
            _progress(f"{model.name}: {n_rows} rows")
    return measurements


def main() -> int:
    """Run the benchmark as the command line asks; 1 if our own kernel failed on a model."""
    options = _options()
    if options.counts:
        return _count(options)
    machine = Machine(processor(), platform.python_version(), os.cpu_count() or 1, options.core, _command())
    options.json.parent.mkdir(parents=True, exist_ok=True)
    failed, everything = False, []
    with options.json.open("wb") as file:
        file.write(msgspec.json.encode(machine) + b"\n")
        for name in options.models:
            model = kernel_models.load(name)
            for note in model.notes:
                _progress(f"{name}: {note}")
            libraries = [x for x in LIBRARIES[model.kind] if not options.only or x in options.only]
            measurements = compare(model, options.sizes, libraries, options)
            file.writelines(msgspec.json.encode(measurement) + b"\n" for measurement in measurements)
            file.flush()
            everything += measurements
            failed |= not any(is_ours(measurement.library) for measurement in measurements)
            print(table(name, measurements) + "\n", flush=True)
    print(summary(everything) + "\n")
    print(f"{machine.machine}, core {machine.core}, Python {machine.python}: `{machine.command}`")
    return int(failed)


def _count(options: argparse.Namespace) -> int:
    """Print what counting bins costs, in this process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    for name in options.models:
        print(counts.table(kernel_models.load(name), options.sizes, options.seconds) + "\n", flush=True)
    print(f"{processor()}, core {options.core}, Python {platform.python_version()}: `{_command()}`")
    return 0


def _started(
    library: str,
    model: Model,
    sizes: Collection[int],
    options: argparse.Namespace,
    stack: contextlib.ExitStack,
) -> Worker | None:
    """A contender that has shown that it scores right, or ``None``.

    Ours at each size that is timed, since another kernel may be at work there.
    """
    checked = {N_CHECKED_IN_BATCH, *(sizes if is_ours(library) else ())}
    try:
        worker = stack.enter_context(Worker(library, model, options.core, may_install=not options.quick))
        most_rows = min(worker.ready.most_rows, kernel_models.N_CHECKED)
        n_off = max(worker.n_differing(min(n_rows, most_rows)) for n_rows in checked)
    except PeerUnavailable as reason:
        _progress(f"{model.name}: without {library}: {reason}")
        return None
    _progress(f"{model.name}: {library} loaded, {n_off} margins off by more than rounding")
    return worker


def _rounds(workers: list[Worker], n_rows: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Times per row of each contender, round by round, all of them in each round."""
    times: dict[str, list[float]] = {worker.library: [] for worker in workers}
    for _ in range(options.rounds):
        for worker in workers:
            earlier = times[worker.library]
            if not earlier or earlier[0] * n_rows < LONG_CALL_NS:
                with contextlib.suppress(PeerUnavailable):  # it has ended, perhaps for want of memory
                    earlier.append(worker.ns_per_row(n_rows, options.seconds))
    return times


def _measurement(worker: Worker, n_rows: int, times: dict[str, list[float]]) -> Measurement:
    own = times[worker.library]
    ratios = [
        theirs / ours
        for theirs, ours in zip(own, times.get(LIBRARIES[worker.model.kind][0], ()), strict=False)
    ]
    return Measurement(
        model=worker.model.name,
        library=worker.library,
        version=worker.ready.version,
        about=worker.ready.about,
        n_rows=n_rows,
        ns_per_row=statistics.median(own),
        ratio=statistics.median(ratios) if ratios else None,
        rounds=tuple(own),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m load_tests.kernels", description="Forest kernels compared."
    )
    parser.add_argument("--models", nargs="+", choices=list(kernel_models.RECIPES), metavar="NAME")
    parser.add_argument("--only", nargs="+", metavar="LIBRARY", help="contenders, besides which none run")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="ROWS", help="rows per call")
    parser.add_argument("--rounds", type=int, help="times that all contenders are measured in turn")
    parser.add_argument("--seconds", type=float, help="at least so long per measurement")
    parser.add_argument("--core", type=int, default=max(_cores()), help="the core to run on")
    parser.add_argument("--json", type=Path, default=CACHE / "kernels" / "results.jsonl")
    parser.add_argument("--quick", action="store_true", help="one model, what is installed, under a minute")
    parser.add_argument("--counts", action="store_true", help="what counting bins costs the kernel instead")
    options = parser.parse_args()
    if options.counts:
        options.models, options.sizes = options.models or COUNTED, options.sizes or COUNTED_SIZES
        options.seconds = options.seconds or 20.0
    options.seconds = options.seconds or 0.15
    options.models = options.models or (kernel_models.QUICK if options.quick else list(kernel_models.RECIPES))
    options.sizes = options.sizes or (QUICK_SIZES if options.quick else SIZES)
    options.rounds = options.rounds or (3 if options.quick else 5)
    return options


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}


def _command() -> str:
    return " ".join(["python -m load_tests.kernels", *sys.argv[1:]])


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
