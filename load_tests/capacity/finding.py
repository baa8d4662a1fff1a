"""Searches a running engine for its capacity, and says what a simulation makes of its costs."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from load_tests.capacity.costs import Busy, Costs, busy_between, costs_of
from load_tests.capacity.search import Capacity, RunRate, Trial, find_max, tolerated_late
from load_tests.capacity.simulation import as_noisy, predict, simulated_trial
from load_tests.command import check_answered
from load_tests.fast.generator import FOREVER, Patience
from load_tests.fast.run import OPEN_LOOP_CONNECTIONS, FastOutcome, run_fast
from load_tests.results.recording import Recording
from load_tests.results.result import Load, latency_of, summarise
from load_tests.results.slo import Promise, judge
from load_tests.running import fast_load, payloads_of
from load_tests.server_view import read_metrics
from load_tests.target import parse_url
from load_tests.watching import LOOPBACK, cpu_seconds, listeners

GUESS_S = 2.0
SCATTERED_S = 4.0
FEW = 100
"""Requests of a second whose 99th percentile means nothing."""
GUESS_CONNECTIONS = 64
PATIENCE_S = 30.0
"""How long the requests of a short load wait: refused ones would be sent again at once, an overload."""
SCATTERED_SHARE = 0.5
"""Of the closed loop's rate, at which single requests wake the engine and it is not overloaded."""
MIN_REQUESTS = 1500
"""Requests in a trial at least: with fewer, a 99th percentile is hardly known."""


def find_capacity(load: Load, sample: str, promise: Promise, tell: Callable[[Trial], None]) -> Capacity:
    """Search for the largest Poisson rate at which an engine keeps a promise; ``tell`` hears each run.

    What requests and batches cost is measured before the search and after it: in the minutes between a
    machine may become another one, and the prediction is to be of both.
    """
    payloads, replicas = payloads_of(load, sample), _replicas(load)
    patient = payloads_of(msgspec.structs.replace(load, deadline_s=PATIENCE_S), sample)
    before = _look(load, patient, replicas)
    check_answered(summarise(load, before.wide.recording))
    found = find_max(promise, _rate_runner(load, payloads, promise, tell), first_guess=before.wide.rate)
    after = _look(load, patient, replicas, rate=before.scattered.rate)
    return _with_prediction(msgspec.structs.replace(found, replicas=replicas), before + after, load)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a short load saw.

    Attributes:
        recording: Outcomes.
        busy: What it saw of the engine, if that counts.
        seconds: How long it was.
        p99s: The 99th percentile of latency of each of its seconds.
    """

    recording: Recording
    busy: Busy | None
    seconds: float
    p99s: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Requests answered a second."""
        return self.recording.latencies().n / self.seconds

    def __add__(self, other: "_Seen") -> "_Seen":
        recording = Recording()
        recording.merge(self.recording)
        recording.merge(other.recording)
        busy = self.busy + other.busy if self.busy and other.busy else None
        return _Seen(recording, busy, self.seconds + other.seconds, self.p99s + other.p99s)


@dataclass(frozen=True, slots=True)
class _Look:
    """Three short loads without refusals: one request at a time, many at once, some at random times."""

    narrow: _Seen
    wide: _Seen
    scattered: _Seen

    def __add__(self, other: "_Look") -> "_Look":
        return _Look(self.narrow + other.narrow, self.wide + other.wide, self.scattered + other.scattered)


def _look(load: Load, patient: list[bytes], replicas: int, *, rate: float | None = None) -> _Look:
    narrow = _short_load(load, patient, connections=1)
    wide = _short_load(load, patient, connections=GUESS_CONNECTIONS * replicas)
    rate = rate or max(1.0, SCATTERED_SHARE * wide.rate)
    scattered = _short_load(load, patient, seconds=SCATTERED_S, rate=rate)
    return _Look(narrow, wide, scattered)


def _short_load(
    load: Load,
    payloads: list[bytes],
    *,
    seconds: float | None = None,
    connections: int = OPEN_LOOP_CONNECTIONS,
    rate: float | None = None,
) -> _Seen:
    target, seconds = parse_url(load.url), seconds or GUESS_S
    engine = listeners(target.port) if target.host in LOOPBACK else []
    before, used_s = read_metrics(target), cpu_seconds(engine)
    outcome = run_fast(fast_load(load, payloads, duration_s=seconds, connections=connections, rate=rate))
    used_s, after = cpu_seconds(engine) - used_s, read_metrics(target)
    recording = outcome.recording
    latencies = [second.latencies for second in recording.seconds.values()]
    p99s = tuple(one.percentile(99) for one in latencies if one.n >= FEW)
    busy = None
    if before is not None and after is not None:
        busy = busy_between(
            before,
            after,
            load.model,
            requests=recording.latencies().n,
            seconds=seconds,
            cpu_seconds=used_s if engine else None,
        )
    return _Seen(recording, busy, seconds, p99s)


def _with_prediction(found: Capacity, look: _Look, load: Load) -> Capacity:
    costs = _costs(found, look, load)
    if costs is None:
        return found
    rows = load.rows_per_request
    predicted = predict(costs, found.promise, first_guess=look.wide.rate, rows_per_request=rows)
    curve = tuple(
        simulated_trial(costs, found.promise, trial.rate, rows_per_request=rows) for trial in found.curve
    )
    return msgspec.structs.replace(found, predicted_rate=predicted.rate, predicted_curve=curve)


def _costs(found: Capacity, look: _Look, load: Load) -> Costs | None:
    if look.narrow.busy is None or look.wide.busy is None:
        return None
    rows = load.rows_per_request
    costs = costs_of(
        look.narrow.busy,
        look.wide.busy,
        look.scattered.busy,
        replicas=found.replicas,
        waiting_rows=GUESS_CONNECTIONS * rows,
    )
    if costs is None or not look.scattered.p99s:
        return costs
    # The upper quartile: a stall spoils single seconds, which lead the search astray as little, but its runs
    # fall into better seconds and worse ones, and most must hold.
    return as_noisy(
        costs,
        look.scattered.rate,
        float(np.percentile(look.scattered.p99s, 75)),
        promise_s=found.promise.limit_s,
        patience_s=PATIENCE_S,
        rows_per_request=rows,
    )


def _replicas(load: Load) -> int:
    """Processes that listen on the engine's port, 1 where it is on another machine."""
    target = parse_url(load.url)
    return len(listeners(target.port)) or 1 if target.host in LOOPBACK else 1


def _rate_runner(
    load: Load, payloads: list[bytes], promise: Promise, tell: Callable[[Trial], None]
) -> RunRate:
    seeds: Iterator[int] = itertools.count(1)

    def run(rate: float, to_the_end: bool) -> Trial:
        duration_s = max(load.duration_s, MIN_REQUESTS / rate)
        n_late = tolerated_late(promise, math.ceil(rate * duration_s))
        patience = FOREVER if to_the_end else Patience(promise.limit_s, n_late)
        outcome = run_fast(
            fast_load(load, payloads, duration_s=duration_s, rate=rate, seed=next(seeds), patience=patience)
        )
        trial = _trial(promise, rate, duration_s, outcome)
        tell(trial)
        return trial

    return run


def _trial(promise: Promise, rate: float, duration_s: float, outcome: FastOutcome) -> Trial:
    recording = outcome.recording
    latencies = recording.latencies()
    verdict = judge(promise, recording, duration_s)
    n_sent = latencies.n + sum(second.shed + second.failed for second in recording.seconds.values())
    answered = latency_of(latencies)
    n_late = n_sent - round(verdict.within * n_sent)
    return Trial(rate, n_sent, n_late, verdict.goodput, answered.p50_s, answered.p99_s, outcome.limit)
