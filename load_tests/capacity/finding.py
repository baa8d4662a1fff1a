"""Searches a running engine for its capacity, and says what a simulation makes of its costs."""

import math
from collections.abc import Callable
from contextlib import nullcontext

import msgspec

from load_tests.capacity.costs import Busy, Costs, busy_between, costs_of
from load_tests.capacity.search import N_REPEATS, N_STAIRS, Capacity, Trial, find_max, tolerated_late
from load_tests.capacity.simulation import predict, simulated_trial
from load_tests.capacity.turns import Turn
from load_tests.command import check_answered
from load_tests.fast.generator import FOREVER, Patience
from load_tests.fast.run import FastLoad, FastOutcome, run_fast
from load_tests.results.result import Load, latency_of, summarise
from load_tests.results.slo import Promise, judge
from load_tests.running import fast_load, payloads_of
from load_tests.server_view import read_metrics
from load_tests.target import parse_url
from load_tests.watching import LOOPBACK, cpu_seconds, listeners

GUESS_S = 2.0
GUESS_CONNECTIONS = 64
PATIENCE_S = 30.0
"""How long the requests of a closed loop wait: refused ones would be sent again at once, an overload."""
MIN_REQUESTS = 1500
"""Requests in a trial at least: with fewer, a 99th percentile is hardly known."""
N_TELLING = N_STAIRS + N_REPEATS
"""The last runs of a search tell what requests and batches cost: those near the capacity, in the minutes that
it was found in."""


def find_capacity(
    load: Load, sample: str, promise: Promise, tell: Callable[[Trial], None], turn: Turn = nullcontext
) -> Capacity:
    """Search for the largest Poisson rate at which an engine keeps a promise.

    What a simulation expects of the costs that the engine counted in the runs is told beside it.

    Args:
        load: What to send, and where.
        sample: Parquet with rows to send.
        promise: What must be kept.
        tell: Hears each run.
        turn: Within one each run is made, and the simulation.
    """
    payloads, replicas = payloads_of(load, sample), _replicas(load)
    with turn():
        closed, busy = _closed_loop(load, sample, replicas)
    check_answered(summarise(load, closed.recording))
    rate = closed.recording.latencies().n / GUESS_S
    runs = _Runs(load, payloads, promise, tell, turn)
    found = find_max(promise, runs.run, first_guess=rate)
    found = msgspec.structs.replace(found, load=load, replicas=replicas)
    counted = runs.counted[: len(found.trials)][-N_TELLING:]
    waiting_rows = GUESS_CONNECTIONS * load.rows_per_request
    costs = busy and costs_of(filter(None, counted), busy, replicas=replicas, waiting_rows=waiting_rows)
    if not costs:
        return found
    with turn():
        return _with_prediction(found, costs, rate, load.rows_per_request)


def _with_prediction(found: Capacity, costs: Costs, first_guess: float, rows_per_request: int) -> Capacity:
    """What was found, beside what a simulation finds with these costs."""
    predicted = predict(costs, found.promise, first_guess=first_guess, rows_per_request=rows_per_request)
    curve = tuple(
        simulated_trial(costs, found.promise, trial.rate, rows_per_request=rows_per_request)
        for trial in found.curve
    )
    return msgspec.structs.replace(found, predicted_rate=predicted.rate, predicted_curve=curve)


class _Runs:
    """Runs rates, and remembers what the engine counted in each, as far as it counts."""

    def __init__(
        self,
        load: Load,
        payloads: list[bytes],
        promise: Promise,
        tell: Callable[[Trial], None],
        turn: Turn,
    ) -> None:
        self._load = load
        self._payloads = payloads
        self._promise = promise
        self._tell = tell
        self._turn = turn
        self.counted: list[Busy | None] = []

    def run(self, rate: float, to_the_end: bool) -> Trial:
        """One rate, with arrivals of its own."""
        duration_s = max(self._load.duration_s, MIN_REQUESTS / rate)
        n_late = tolerated_late(self._promise, math.ceil(rate * duration_s))
        patience = FOREVER if to_the_end else Patience(self._promise.limit_s, n_late)
        seed = len(self.counted) + 1
        fast = fast_load(
            self._load, self._payloads, duration_s=duration_s, rate=rate, seed=seed, patience=patience
        )
        with self._turn():
            outcome, busy = _counted(self._load, fast)
        self.counted.append(busy)
        trial = _trial(self._promise, rate, duration_s, outcome)
        self._tell(trial)
        return trial


def _closed_loop(load: Load, sample: str, replicas: int) -> tuple[FastOutcome, Busy | None]:
    """Many requests at once for a short time, none of them refused."""
    patient = payloads_of(msgspec.structs.replace(load, deadline_s=PATIENCE_S), sample)
    connections = GUESS_CONNECTIONS * replicas
    return _counted(load, fast_load(load, patient, duration_s=GUESS_S, connections=connections))


def _counted(load: Load, fast: FastLoad) -> tuple[FastOutcome, Busy | None]:
    """The outcome, and what the engine counted meanwhile."""
    target = parse_url(load.url)
    engine = listeners(target.port) if target.host in LOOPBACK else []
    before, used_s = read_metrics(target), cpu_seconds(engine)
    outcome = run_fast(fast)
    used_s, after = cpu_seconds(engine) - used_s, read_metrics(target)
    if before is None or after is None:
        return outcome, None
    cpu_s = used_s if engine else None
    return outcome, busy_between(before, after, load.model, seconds=fast.duration_s, cpu_s=cpu_s)


def _replicas(load: Load) -> int:
    """Processes that listen on the engine's port, 1 where it is on another machine."""
    target = parse_url(load.url)
    return len(listeners(target.port)) or 1 if target.host in LOOPBACK else 1


def _trial(promise: Promise, rate: float, duration_s: float, outcome: FastOutcome) -> Trial:
    recording = outcome.recording
    latencies = recording.latencies()
    verdict = judge(promise, recording, duration_s)
    n_sent = latencies.n + sum(second.shed + second.failed for second in recording.seconds.values())
    answered = latency_of(latencies)
    n_late = n_sent - round(verdict.within * n_sent)
    return Trial(rate, n_sent, n_late, verdict.goodput, answered.p50_s, answered.p99_s, outcome.limit)
