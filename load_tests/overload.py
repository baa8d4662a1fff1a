"""``python -m load_tests.overload``: twice the capacity for half a minute, and what comes after it.

    python -m load_tests.overload --times 2 --seconds 30 --slo-ms 50

Serves a network so dear that the generator is not the limit, on the same machine. Its capacity is the
rate of a closed loop of patient clients, before and after; then requests arrive at random at a multiple
of it, answered or not, and at a quarter of it right afterwards. Exit code 1 where a promise was broken.

The network is made as wide as this machine needs: three full batches fit the promise, so
50 ms make about 2,000 requests/s, and 100 ms half as many.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from engine.packing import pack
from engine.pages.machine import machine
from load_tests.fast.generator import FastGenerator, Samples
from load_tests.fast.run import OPEN_LOOP_CONNECTIONS, FastLoad, FastOutcome, record, run_fast
from load_tests.local_engine import LocalEngine, local_engine
from load_tests.networks import network, width_for
from load_tests.payloads.wire import Request, raw
from load_tests.results.recording import SHED_STATUSES
from load_tests.shapes import poisson_arrivals

NAME = "network"
N_PAYLOADS = 1000
MAX_BATCH_ROWS = 32
BATCHES_IN_PROMISE = 3.0
"""A full batch, timed alone, fits the promise so often: beside loop and generator it takes a fifth longer."""
USERS = 2 * MAX_BATCH_ROWS
"""Of the closed loop: one batch under way and one that waits."""
PATIENCE = {"Tandem-Timeout-S": "30"}
"""What its requests say, so that none is refused and sent again at once."""
AFTER_SHARE = 0.25
AFTER_S = 4.0
STEP_S = 0.05
GOODPUT, REFUSAL_S, RECOVERY_S = 0.9, 0.010, 1.0
"""What must be reached: a share of capacity, the 99th percentile of a refusal, and the time to recover."""


class Overloaded(msgspec.Struct, frozen=True):
    """What became of an overload.

    Attributes:
        slo_s: The promise.
        capacity: Requests a second in a closed loop of patient clients.
        offered: Requests a second that arrived.
        in_time: Answered a second within the promise.
        late: Requests answered after it.
        refused: Requests refused.
        p99_s: Of the requests answered.
        refusal_p99_s: Of the refusals.
        unanswered: Requests without any answer, and connections that broke.
        recovered_s: After the load's end, when a second began in which 99 of 100 were in time.
        generator_limit: Why the generator may have been the limit.
    """

    slo_s: float
    capacity: float
    offered: float
    in_time: float
    late: int
    refused: int
    p99_s: float
    refusal_p99_s: float
    unanswered: dict[str, int]
    recovered_s: float | None
    generator_limit: str | None = None

    def missed(self) -> list[str]:
        """What was promised and not kept, in words."""
        words = {
            f"expected {GOODPUT:.0%} of capacity in time": self.in_time < GOODPUT * self.capacity,
            f"expected refusals within {1e3 * REFUSAL_S:g} ms": self.refusal_p99_s > REFUSAL_S,
            "expected an answer to each request": bool(self.unanswered),
            f"expected recovery within {RECOVERY_S:g} s": (self.recovered_s or 0.0) > RECOVERY_S
            or self.recovered_s is None,
        }
        return [promise for promise, broken in words.items() if broken]


def main() -> int:
    """Measure, print, and say by the exit code whether all was kept."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="tandem-overload-") as folder:
        width = options.width or width_for(options.slo_ms / 1e3 / BATCHES_IN_PROMISE, MAX_BATCH_ROWS)
        bundle = pack(network(width), name=NAME, out=folder)
        with local_engine(
            {NAME: bundle}, slo={"p99_ms": options.slo_ms}, max_batch_rows=MAX_BATCH_ROWS
        ) as engine:
            results = [_measure(engine, options, turn) for turn in range(options.rounds)]
    for result in results:
        _print(result)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    return 1 if any(result.missed() for result in results) else 0


def judged(
    samples: Samples,
    *,
    slo_s: float,
    capacity: float,
    offered: float,
    seconds: float,
    limit: str | None = None,
) -> Overloaded:
    """What the samples of a run amount to: the overload until ``seconds``, the light load after it."""
    due, latency = np.asarray(samples.due), np.asarray(samples.latency)
    status = np.asarray(samples.status)
    answered, refused = (status >= 200) & (status < 300), np.isin(status, list(SHED_STATUSES))
    in_time = answered & (latency <= slo_s)
    during = due < seconds
    return Overloaded(
        slo_s=slo_s,
        capacity=capacity,
        offered=offered,
        in_time=float((in_time & during).sum() / seconds),
        late=int((answered & during & ~in_time).sum()),
        refused=int((refused & during).sum()),
        p99_s=_p99(latency[answered & during]),
        refusal_p99_s=_p99(latency[refused & during]),
        unanswered={} if (answered | refused).all() else samples.reasons,
        recovered_s=_recovered_s(due - seconds, in_time),
        generator_limit=limit,
    )


def _recovered_s(due: NDArray[np.float64], in_time: NDArray[np.bool_]) -> float | None:
    """When the first second begins in which 99 of 100 requests were in time; None if never."""
    for start in np.arange(0.0, due.max(initial=0.0) - 1.0, STEP_S).tolist():
        here = (due >= start) & (due < start + 1.0)
        if here.any() and in_time[here].mean() >= 0.99:
            return float(start)
    return None


def _p99(latencies: NDArray[np.float64]) -> float:
    return float(np.percentile(latencies, 99)) if latencies.size else 0.0


def _measure(engine: LocalEngine, options: argparse.Namespace, seed: int) -> Overloaded:
    payloads, patient = _payloads(engine), _payloads(engine, PATIENCE)
    before = _capacity(engine, patient)
    print(f"capacity {before:,.0f}/s, now {options.times:g} times that", file=sys.stderr, flush=True)
    offered = options.times * before
    random = np.random.default_rng(seed)
    overload = poisson_arrivals(offered, options.seconds, random=random)
    after = options.seconds + poisson_arrivals(AFTER_SHARE * before, AFTER_S, random=random)
    generator = FastGenerator(engine.address, payloads, n_connections=OPEN_LOOP_CONNECTIONS)
    started_s, used_s = time.perf_counter(), time.process_time()
    samples = generator.run_open(np.concatenate([overload, after]))
    cpu = (time.process_time() - used_s) / (time.perf_counter() - started_s)
    capacity = statistics.fmean((before, _capacity(engine, patient)))
    limit = FastOutcome(record(samples), cpu).limit
    return judged(
        samples,
        slo_s=options.slo_ms / 1e3,
        capacity=capacity,
        offered=offered,
        seconds=options.seconds,
        limit=limit,
    )


def _capacity(engine: LocalEngine, payloads: Sequence[bytes]) -> float:
    """The median rate of three closed loops, after one that warms up."""
    run_fast(FastLoad(engine.address, payloads, 1.0, connections=USERS))
    loops = [run_fast(FastLoad(engine.address, payloads, 2.0, connections=USERS)) for _ in range(3)]
    return statistics.median(loop.recording.latencies().n / 2.0 for loop in loops)


def _payloads(engine: LocalEngine, headers: Mapping[str, str] = {}) -> list[bytes]:
    names = engine.target.features(NAME)
    rows = np.random.default_rng(1).normal(size=(N_PAYLOADS, len(names))).astype(np.float32)
    bodies = (msgspec.json.encode({"rows": [dict(zip(names, row.tolist(), strict=True))]}) for row in rows)
    path, json = f"/v1/models/{NAME}/score", {"Content-Type": "application/json", **headers}
    return [raw(Request(path, body, 1, json), *engine.address) for body in bodies]


def _print(result: Overloaded) -> None:
    console = Console(width=140, highlight=False)
    table = Table(title="More than it can answer", title_justify="left", show_header=False)
    share = result.in_time / result.capacity
    recovered = "not" if result.recovered_s is None else f"{result.recovered_s:.2f} s"
    rows = {
        "capacity (closed loop, before and after)": f"{result.capacity:,.0f}/s",
        "offered": f"{result.offered:,.0f}/s",
        f"answered within {1e3 * result.slo_s:g} ms": f"{result.in_time:,.0f}/s, {share:.1%} of capacity",
        "answered later": f"{result.late:,}",
        "p99 of answers": f"{1e3 * result.p99_s:.1f} ms",
        "refused": f"{result.refused:,}, p99 {1e3 * result.refusal_p99_s:.1f} ms",
        "without an answer": "; ".join(f"{n} × {why}" for why, n in result.unanswered.items()) or "none",
        "recovered after": recovered,
        "missed": "; ".join(result.missed()) or "nothing",
        "generator": result.generator_limit or "not the limit",
    }
    for row in rows.items():
        table.add_row(*row)
    console.print(table)
    about = machine(("tandem-scoring", "onnxruntime"))
    console.print(" · ".join(f"{key} {value}" for key, value in about.items()), soft_wrap=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=float, default=2.0, help="what arrives, in multiples of capacity")
    parser.add_argument("--seconds", type=float, default=30.0, help="of overload")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--slo-ms", type=float, default=50.0, help="the promise")
    parser.add_argument("--width", type=int, help="of the network; by default what this machine needs")
    parser.add_argument("--json", type=Path, help="file for the results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
