"""Runs the fast generator, in one process or several, and adds up what they saw."""

import math
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from load_tests.fast.generator import FOREVER, FastGenerator, Patience, Samples, Tell
from load_tests.results.histogram import LOWEST_S, STEP, LatencyHistogram
from load_tests.results.recording import MAX_REASONS, SHED_STATUSES, Recording, Second
from load_tests.shapes import Shape, poisson_arrivals

OPEN_LOOP_CONNECTIONS = 512
"""Requests under way at most in an open loop, over all processes."""
MAX_CPU = 0.9
MAX_DELAY_S = 0.01
START_AFTER_S = 1.5


@dataclass(frozen=True, slots=True)
class FastLoad:
    """A load for the fast generator.

    Attributes:
        address: Host and port of the engine.
        payloads: Whole HTTP requests, sent in turn.
        duration_s: How long to send.
        connections: Requests under way at most.
        rate: Poisson arrivals a second at the shape's peak; ``None`` for a closed loop.
        shape: How the rate moves.
        processes: Processes that share the load.
        seed: Of the arrivals.
        patience: When to end an open loop early.
        tell: Hears the samples so far once a second; only with one process.
    """

    address: tuple[str, int]
    payloads: Sequence[bytes] = field(repr=False)
    duration_s: float
    connections: int
    rate: float | None = None
    shape: Shape = "constant"
    processes: int = 1
    seed: int = 0
    patience: Patience = FOREVER
    tell: Tell | None = None


@dataclass(frozen=True, slots=True)
class FastOutcome:
    """What a fast load saw.

    Attributes:
        recording: Outcomes and latencies by second.
        cpu: Share of a core that the busiest process used.
        ended_early: Whether patience ended before the load did.
    """

    recording: Recording
    cpu: float
    ended_early: bool = False

    @property
    def limit(self) -> str | None:
        """A sentence where the generator limited the run, else ``None``."""
        delay_s = self.recording.delays.percentile(99)
        if self.cpu > MAX_CPU:
            return (
                f"the generator was the limit: it kept {100 * self.cpu:.0f} % of a core busy; "
                "use more --processes on a machine with free cores"
            )
        if not math.isnan(delay_s) and delay_s > MAX_DELAY_S:
            return (
                f"the generator was the limit: one request in a hundred left {1000 * delay_s:.0f} ms or "
                "more after it was due; use a machine of its own"
            )
        return None


def run_fast(load: FastLoad) -> FastOutcome:
    """Send a load to its end; several processes start at the same moment."""
    if load.processes == 1:
        return _run_share(load, 0, time.monotonic())
    start_at = time.monotonic() + START_AFTER_S
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(load.processes, mp_context=spawn) as pool:
        shares = [pool.submit(_run_share, load, share, start_at) for share in range(load.processes)]
        outcomes = [share.result() for share in shares]
    together = Recording()
    for outcome in outcomes:
        together.merge(outcome.recording)
    return FastOutcome(
        together, max(outcome.cpu for outcome in outcomes), any(outcome.ended_early for outcome in outcomes)
    )


def _run_share(load: FastLoad, share: int, start_at: float) -> FastOutcome:
    n_connections = max(1, load.connections // load.processes)
    first = share * len(load.payloads) // load.processes
    generator = FastGenerator(
        load.address,
        load.payloads,
        n_connections=n_connections,
        first=first,
        patience=load.patience,
        tell=load.tell,
    )
    random = np.random.default_rng((load.seed, share))
    time.sleep(max(0.0, start_at - time.monotonic()))
    started, used = time.perf_counter(), time.process_time()
    if load.rate is None:
        samples = generator.run_closed(load.duration_s)
    else:
        rate = load.rate / load.processes
        samples = generator.run_open(poisson_arrivals(rate, load.duration_s, shape=load.shape, random=random))
    cpu = (time.process_time() - used) / (time.perf_counter() - started)
    return FastOutcome(record(samples), cpu, samples.n_late > load.patience.n_late)


def record(samples: Samples) -> Recording:
    """Samples as a recording, second by second."""
    due, latency = np.asarray(samples.due), np.asarray(samples.latency)
    status = np.asarray(samples.status)
    ok, shed = (status >= 200) & (status < 300), np.isin(status, list(SHED_STATUSES))
    recording = Recording(
        refusals=histogram_of(latency[shed]), delays=histogram_of(np.asarray(samples.delay))
    )
    seconds = due.astype(np.int64)
    for at in np.unique(seconds):
        here = seconds == at
        recording.seconds[int(at)] = Second(
            histogram_of(latency[here & ok]), int((here & shed).sum()), int((here & ~ok & ~shed).sum())
        )
    if not (ok | shed).all():
        recording.errors = dict(sorted(samples.reasons.items(), key=lambda item: -item[1])[:MAX_REASONS])
    return recording


def histogram_of(latencies: NDArray[np.float64]) -> LatencyHistogram:
    """The histogram of many latencies in seconds at once."""
    if not latencies.size:
        return LatencyHistogram()
    floored = np.maximum(latencies, LOWEST_S)
    buckets, counts = np.unique(
        (np.log(floored / LOWEST_S) / math.log(STEP)).astype(np.int64), return_counts=True
    )
    return LatencyHistogram(
        dict(zip(buckets.tolist(), counts.tolist(), strict=True)),
        int(latencies.size),
        float(latencies.sum()),
        float(latencies.max()),
    )
