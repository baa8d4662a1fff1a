"""``python -m load_tests.counting``: what the counters cost a replica's throughput.

    python -m load_tests.counting --seconds 60 --connections 64

A closed loop asks an engine that serves a forest over HTTP in a process of its own. Meanwhile that counts for
some hundredths of a second, does not, and once more does not, in an order drawn anew each time. A cost is
what a request takes more while it counts; not counting against not counting says what the measure is worth.
Processor time is that of the engine's process, the kernel's on its behalf included.
"""

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from load_tests.capacity.models import MODELS
from load_tests.command import Wishes, plan_load
from load_tests.fast.run import FastLoad, run_fast
from load_tests.kernels.counts import N_RESAMPLES
from load_tests.peers.model import NAME
from load_tests.running import payloads_of

CACHE = Path(".cache/peers")
WAYS = (True, False, False)
"""Whether it counts in each window of a block."""
WINDOW_S = 0.02
WARM_UP_S = 2.0
REST_S = 1.0
"""What the load lasts beyond the windows."""


def main() -> None:
    """Measure and print."""
    options = _options()
    model = MODELS["cheap"](CACHE)
    with _engine(model.bundle) as (port, pipe):
        wishes = Wishes(sample=str(model.sample), generator="fast")
        payloads = payloads_of(*plan_load(f"http://127.0.0.1:{port}", wishes))
        run_fast(FastLoad(("127.0.0.1", port), payloads, WARM_UP_S, options.connections))
        pipe.send(options.seconds)
        run_fast(FastLoad(("127.0.0.1", port), payloads, options.seconds + REST_S, options.connections))
        blocks = np.array(pipe.recv())
    print(table(blocks, options.connections))


def table(blocks: NDArray[np.float64], connections: int) -> str:
    """In Markdown, of float64[blocks, 3, 3]: by window the requests, seconds and processor seconds.

    Sums over all blocks are compared: what is counted for many requests at once falls into few windows.
    """
    requests, seconds, cpu_s = np.moveaxis(blocks, 2, 0)
    rate, cpu_us = requests[:, 0].sum() / seconds[:, 0].sum(), 1e6 * cpu_s[:, 0].sum() / requests[:, 0].sum()
    rows = {f"requests/s, {rate:,.0f}": seconds, f"processor time a request, {cpu_us:.0f} µs": cpu_s}
    lines = [
        f"| {connections} connections, {len(blocks)} blocks: cost (95 % interval) | counting | not, again |",
        "|---|---|---|",
    ]
    for name, spent in rows.items():
        cells = [_cell(requests[:, [way, 1]], spent[:, [way, 1]]) for way in (0, 2)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(requests: NDArray[np.float64], spent: NDArray[np.float64]) -> str:
    """How much more a request takes in the first column than in the second, with a bootstrap interval."""
    random = np.random.default_rng(0)
    picks = random.integers(0, len(requests), (N_RESAMPLES, len(requests)))
    each = spent[picks].sum(axis=1) / requests[picks].sum(axis=1)
    whole = spent.sum(axis=0) / requests.sum(axis=0)
    low, high = np.percentile(each[:, 0] / each[:, 1] - 1, [2.5, 97.5])
    return f"{whole[0] / whole[1] - 1:+.1%} ({low:+.1%} to {high:+.1%})"


@contextmanager
def _engine(bundle: Path) -> Iterator[tuple[int, Connection]]:
    """An engine's port, and a pipe that takes for how long to measure and gives the blocks."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(str(bundle), theirs), daemon=True)
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        process.terminate()
        process.join()


def _serve(bundle: str, pipe: Connection) -> None:
    import uvloop

    uvloop.run(_serve_and_measure(bundle, pipe))


async def _serve_and_measure(bundle: str, pipe: Connection) -> None:
    from engine.config import Serve
    from engine.realtime.serving.app import ScoringApp
    from engine.realtime.serving.listener import open_listener
    from engine.realtime.serving.server import Server
    from engine.scorer import Scorer

    scorer = Scorer.load(bundle)
    scorer.warm_up()
    settings = Serve(port=0)
    listener = open_listener("127.0.0.1", 0, shared=False)
    app = ScoringApp({NAME: scorer}, settings)
    server = Server(app, listener, settings)
    await server.start()
    told = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), told.set)
    pipe.send(server.port)
    await told.wait()
    asyncio.get_running_loop().remove_reader(pipe.fileno())
    pipe.send(await _blocks(server, app.model(NAME), pipe.recv()))
    await asyncio.Event().wait()


async def _blocks(server: Any, model: Any, seconds: float) -> list[NDArray[np.float64]]:
    """Blocks of windows, as ``table`` takes them."""
    counters = {True: model.counters, False: NoCounters()}
    random, found, ends_s = np.random.default_rng(0), [], time.perf_counter() + seconds
    while time.perf_counter() < ends_s:
        block = np.empty((len(WAYS), 3))
        for way in random.permutation(len(WAYS)):
            model.counters = model.batcher._observer = counters[WAYS[way]]
            before = _now(server)
            await asyncio.sleep(WINDOW_S)
            block[way] = _now(server) - before
        found.append(block)
    return found


def _now(server: Any) -> NDArray[np.float64]:
    return np.array([server._state.total_requests, time.perf_counter(), time.process_time()])


class NoCounters:
    """Stands where ``ModelCounters`` are, and counts nothing."""

    def nothing(self, *_: object) -> None:
        """Whatever happened."""

    request_begun = request_ended = request_left = request_scored = batch_scored = request_shed = nothing


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    main()
