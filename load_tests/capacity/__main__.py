"""``make bench-capacity``: does a search for the capacity repeat, and did the simulation know it?

    python -m load_tests.capacity --repeats 2 [--models cheap dear]

The searches of a model have an engine each, which makes the same promise, and their runs take turns: a
machine that changes by the minute changes all of them, and what differs is the search's own. Exit code 1
when a capacity is further from the mean than ``MAX_SPREAD`` or a prediction is further from the capacity
measured than ``MAX_ERROR``.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from engine.errors import TandemError
from engine.pages.machine import machine
from load_tests.capacity.finding import find_capacity
from load_tests.capacity.models import MODELS, Measurable
from load_tests.capacity.search import Capacity
from load_tests.capacity.turns import Turn, in_turns
from load_tests.command import Wishes, plan_load
from load_tests.local_engine import LocalEngine, local_engine
from load_tests.peers.model import NAME
from load_tests.results.printing import print_trial
from load_tests.results.slo import parse_promise

CACHE = Path(".cache/peers")
MAX_SPREAD = 0.10
MAX_ERROR = 0.20


def main(arguments: list[str] | None = None) -> int:
    """Search some times, print; 1 when out of bounds, 2 when nothing could be measured."""
    options = _options(arguments)
    found: dict[str, list[Capacity]] = {}
    try:
        for name in options.models:
            print(f"searches for {name}: {options.repeats}, in turns", file=sys.stderr, flush=True)
            found[name] = _searches(MODELS[name](CACHE), options)
    except TandemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_searches(found, options)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    faults = faults_of(found)
    print("\n".join(faults) or "every capacity repeated and was predicted within bounds")
    return 1 if faults else 0


def spread_of(rates: Sequence[float]) -> float:
    """How far the farthest rate lies from their mean, as a share of it."""
    mean = statistics.fmean(rates)
    return max(abs(rate / mean - 1) for rate in rates)


def errors_of(searches: Sequence[Capacity]) -> list[float]:
    """How far each prediction lay from the capacity its own search measured, as a share of it."""
    return [search.predicted_rate / search.rate - 1 for search in searches if search.predicted_rate]


def faults_of(found: dict[str, list[Capacity]]) -> list[str]:
    """What is out of bounds, each in a line."""
    faults = []
    for name, searches in found.items():
        if not all(search.rate for search in searches):
            faults.append(f"{name}: no rate kept the promise")
            continue
        spread, errors = spread_of([search.rate for search in searches]), errors_of(searches)
        if spread > MAX_SPREAD:
            faults.append(
                f"{name}: a capacity was {100 * spread:.0f} % from the mean, {100 * MAX_SPREAD:.0f} % allowed"
            )
        if len(errors) < len(searches):
            faults.append(f"{name}: nothing was predicted")
        elif max(map(abs, errors)) > MAX_ERROR:
            worst = max(errors, key=abs)
            faults.append(
                f"{name}: a prediction was {100 * worst:+.0f} % off, {100 * MAX_ERROR:.0f} % allowed"
            )
    return faults


def print_searches(found: dict[str, list[Capacity]], options: argparse.Namespace) -> None:
    """Print every search, then how far apart they are."""
    console = Console(width=140, highlight=False)
    title = f"Largest Poisson rate that keeps {parse_promise(options.slo)}, tandem serve --local"
    table = Table(title=title, title_justify="left")
    table.add_column("model", no_wrap=True)
    for heading in ("search", "requests/s", "held", "predicted", "off", "runs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, searches in found.items():
        for turn, search in enumerate(searches, 1):
            predicted = search.predicted_rate or 0.0
            off = f"{100 * (predicted / search.rate - 1):+.0f} %" if search.rate else "–"
            held = f"{search.held} of {search.repeats}"
            table.add_row(
                name,
                str(turn),
                f"{search.rate:,.0f}",
                held,
                f"{predicted:,.0f}",
                off,
                str(len(search.trials)),
            )
    console.print(table)
    for name, searches in found.items():
        rates = [search.rate for search in searches]
        if all(rates):
            mean, spread = statistics.fmean(rates), spread_of(rates)
            console.print(f"{name}: mean {mean:,.0f}/s, the farthest {100 * spread:.1f} % from it")
    about = machine(("tandem-scoring", "lightgbm", "onnxruntime"))
    console.print(" · ".join(f"{key} {value}" for key, value in about.items()), soft_wrap=True)


def _searches(model: Measurable, options: argparse.Namespace) -> list[Capacity]:
    promise = parse_promise(options.slo)
    wishes = Wishes(sample=str(model.sample), duration=f"{options.seconds}s", generator="fast")

    def search(engine: LocalEngine, turn: Turn) -> Capacity:
        load, sample = plan_load("http://{}:{}".format(*engine.address), wishes)
        return find_capacity(load, sample, promise, lambda trial: print_trial(promise, trial), turn)

    with ExitStack() as running:
        slo = {"p99_ms": 1e3 * promise.limit_s}
        engines = [
            running.enter_context(local_engine({NAME: model.bundle}, slo=slo)) for _ in range(options.repeats)
        ]
        return in_turns([partial(search, engine) for engine in engines])


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m load_tests.capacity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=2, help="searches of each model")
    parser.add_argument("--slo", default="p99=20ms")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run of a search")
    parser.add_argument("--json", type=Path, help="file for all searches")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
