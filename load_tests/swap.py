"""``python -m load_tests.swap``: what a reload costs those who ask meanwhile.

    python -m load_tests.swap --swaps 7

One replica on Ray under about half of what it can answer, Poisson arrivals. Every few seconds its model is
reloaded, to and fro between two revisions; the p99 between asking for it and its end is compared with
the p99 of the seconds before. Medians of all swaps; exit code 1 where the ratio is over 1.5.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from engine.pages.machine import machine
from load_tests.fast.generator import FastGenerator, Samples
from load_tests.fast.run import OPEN_LOOP_CONNECTIONS, FastLoad, run_fast
from load_tests.payloads.wire import encode, raw
from load_tests.shapes import poisson_arrivals
from load_tests.soak.inputs import MODEL, Inputs, make_inputs
from load_tests.soak.serving import Engine, serving

BEFORE_S = 3.0
AFTER_S = 1.0
LONGEST_S = 6.0
"""A swap that takes longer runs into the next one's time before."""
MOST_RATIO = 1.5
SHARE = 0.25
"""Of a closed loop's rate. There requests come in bunches; one by one they cost about twice as much."""


class Swap(msgspec.Struct, frozen=True):
    """One swap under load: how long it took, the p99 before and during it, and requests not answered."""

    seconds: float
    before_p99_s: float
    during_p99_s: float
    failed: int

    @property
    def ratio(self) -> float:
        """How many times the p99 rose."""
        return self.during_p99_s / self.before_p99_s


def main() -> int:
    """Measure and print."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="tandem-swap-") as name:
        folder = Path(name)
        inputs = make_inputs(folder, batch_rows=1000)
        with serving(folder, inputs.bundles[0], local=False, n_replicas=1) as engine:
            rate, swaps = _measure(engine, inputs, options)
    _print(rate, swaps)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(swaps), indent=1))
    return 1 if statistics.median(swap.ratio for swap in swaps) > MOST_RATIO else 0


def swap_of(samples: Samples, begun_s: float, ended_s: float) -> Swap:
    """What the samples of a run say of the swap between two moments."""
    due, latency = np.asarray(samples.due), np.asarray(samples.latency)
    before, during = (due >= begun_s - BEFORE_S) & (due < begun_s), (due >= begun_s) & (due <= ended_s)
    failed = (np.asarray(samples.status) != 200) & (before | during)
    return Swap(ended_s - begun_s, _p99(latency[before]), _p99(latency[during]), int(failed.sum()))


def _p99(latencies: NDArray[np.float64]) -> float:
    return float(np.percentile(latencies, 99)) if latencies.size else float("nan")


def _measure(engine: Engine, inputs: Inputs, options: argparse.Namespace) -> tuple[float, list[Swap]]:
    address = engine.target.host, engine.target.port
    payloads = [raw(request, *address) for request in encode("rows", MODEL, inputs.rows, 1)]
    for seconds in (1.0, 3.0):
        loop = run_fast(FastLoad(address, payloads, seconds, connections=64))
    rate = SHARE * loop.recording.latencies().n / 3.0
    duration_s = options.swaps * (BEFORE_S + LONGEST_S + AFTER_S)
    arrivals = poisson_arrivals(rate, duration_s, random=np.random.default_rng(0))
    generator = FastGenerator(address, payloads, n_connections=OPEN_LOOP_CONNECTIONS)
    moments: list[tuple[float, float]] = []
    gc.collect()  # now, so that the generator's own takes no time between the two clocks
    started_s = time.perf_counter()
    reloading = threading.Thread(target=lambda: asyncio.run(_reload(engine, inputs, moments, options.swaps)))
    reloading.start()
    samples = generator.run_open(arrivals)
    reloading.join()
    return rate, [swap_of(samples, begun - started_s, ended - started_s) for begun, ended in moments]


async def _reload(engine: Engine, inputs: Inputs, moments: list[tuple[float, float]], n_swaps: int) -> None:
    for turn in range(n_swaps):
        await asyncio.sleep(BEFORE_S + AFTER_S)
        begun_s = time.perf_counter()
        said = await engine.reload(inputs.bundles[(turn + 1) % 2])
        moments.append((begun_s, time.perf_counter()))
        print(said, file=sys.stderr, flush=True)
        await asyncio.sleep(max(0.0, begun_s + LONGEST_S - time.perf_counter()))


def _print(rate: float, swaps: list[Swap]) -> None:
    console = Console(width=140, highlight=False)
    table = Table(title=f"Reloads under {rate:,.0f} requests/s")
    for heading in ("swap", "took", "p99 before", "p99 during", "ratio", "not answered"):
        table.add_column(heading, justify="right", no_wrap=True)
    for turn, swap in enumerate(swaps):
        times = (f"{1e3 * seconds:.2f} ms" for seconds in (swap.before_p99_s, swap.during_p99_s))
        cells = (f"{swap.seconds:.1f} s", *times, f"{swap.ratio:.2f}", str(swap.failed))
        table.add_row(str(turn + 1), *cells)
    console.print(table)
    console.print(f"median ratio {statistics.median(swap.ratio for swap in swaps):.2f}, at most {MOST_RATIO}")
    about = machine(("tandem-scoring", "ray"))
    console.print(" · ".join(f"{key} {value}" for key, value in about.items()), soft_wrap=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--swaps", type=int, default=7)
    parser.add_argument("--json", type=Path, help="file for the swaps")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
