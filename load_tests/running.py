"""Runs a planned load, or a search for capacity, and gathers what engine and machine say of it."""

import itertools
import math
from collections.abc import Callable, Iterator

import msgspec

from load_tests.capacity.search import Capacity, RunRate, Trial, find_max, tolerated_late
from load_tests.capacity.simulation import Busy, Costs, busy_between, costs_of, predict, simulated_trial
from load_tests.command import check_answered
from load_tests.fast.generator import FOREVER, Patience, Tell
from load_tests.fast.run import OPEN_LOOP_CONNECTIONS, FastLoad, FastOutcome, run_fast
from load_tests.locust_run import run_locust
from load_tests.payloads.sample import read_sample
from load_tests.payloads.wire import encode, raw, with_deadline
from load_tests.progress import SampleProgress, show_live
from load_tests.results.recording import Recording
from load_tests.results.result import Load, LoadResult, latency_of, summarise
from load_tests.results.slo import Promise, judge
from load_tests.server_view import read_metrics, view
from load_tests.target import parse_url
from load_tests.watching import LOOPBACK, cpu_seconds, listeners, watching

GUESS_S = 2.0
GUESS_CONNECTIONS = 64
PATIENCE_S = 30.0
"""How long the requests of a closed loop wait: refused ones would be sent again at once, an overload."""
SCATTERED_SHARE = 0.5
"""Of the closed loop's rate, at which single requests wake the engine and it is not overloaded."""
MIN_REQUESTS = 1500
"""Requests in a trial at least: with fewer, a 99th percentile is hardly known."""


def run_load(load: Load, sample: str, promise: Promise | None = None) -> LoadResult:
    """Run a load with the generator it names.

    Args:
        load: What to send.
        sample: Parquet to draw rows from.
        promise: The SLO to judge the run by.
    """
    target = parse_url(load.url)
    before = read_metrics(target)
    with watching(target.host, target.port) as watch:
        recording, limit = run_locust(load, sample) if load.generator == "locust" else _run_fast(load, sample)
    show_live("")
    verdict = judge(promise, recording, load.duration_s) if promise else None
    return summarise(
        load,
        recording,
        generator_limit=limit,
        verdict=verdict,
        server=view(before, read_metrics(target), load.model),
        machine=watch.moments,
    )


def find_capacity(load: Load, sample: str, promise: Promise, tell: Callable[[Trial], None]) -> Capacity:
    """Search for the largest Poisson rate at which an engine keeps a promise; ``tell`` hears each run."""
    payloads, replicas = _payloads(load, sample), _replicas(load)
    patient = _payloads(msgspec.structs.replace(load, deadline_s=PATIENCE_S), sample)
    narrow, _ = _short_load(load, patient, connections=1)
    wide, seen = _short_load(load, patient, connections=GUESS_CONNECTIONS * replicas)
    check_answered(summarise(load, seen))
    rate = seen.latencies().n / GUESS_S
    scattered, _ = _short_load(load, payloads, rate=SCATTERED_SHARE * rate)
    found = find_max(promise, _rate_runner(load, payloads, promise, tell), first_guess=rate)
    waiting_rows = GUESS_CONNECTIONS * load.rows_per_request
    costs = None
    if narrow and wide:
        costs = costs_of(narrow, wide, scattered, replicas=replicas, waiting_rows=waiting_rows)
    return _with_prediction(msgspec.structs.replace(found, replicas=replicas), costs, load, rate)


def _short_load(
    load: Load, payloads: list[bytes], *, connections: int = OPEN_LOOP_CONNECTIONS, rate: float | None = None
) -> tuple[Busy | None, Recording]:
    target = parse_url(load.url)
    engine = listeners(target.port) if target.host in LOOPBACK else []
    before, used_s = read_metrics(target), cpu_seconds(engine)
    outcome = run_fast(_fast_load(load, payloads, duration_s=GUESS_S, connections=connections, rate=rate))
    used_s, after = cpu_seconds(engine) - used_s, read_metrics(target)
    if before is None or after is None:
        return None, outcome.recording
    n = outcome.recording.latencies().n
    busy = busy_between(
        before, after, load.model, requests=n, seconds=GUESS_S, cpu_seconds=used_s if engine else None
    )
    return busy, outcome.recording


def _with_prediction(found: Capacity, costs: Costs | None, load: Load, guess: float) -> Capacity:
    if costs is None:
        return found
    rows = load.rows_per_request
    predicted = predict(costs, found.promise, first_guess=guess, rows_per_request=rows)
    curve = tuple(
        simulated_trial(costs, found.promise, trial.rate, rows_per_request=rows) for trial in found.curve
    )
    return msgspec.structs.replace(found, predicted_rate=predicted.rate, predicted_curve=curve)


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
            _fast_load(load, payloads, duration_s=duration_s, rate=rate, seed=next(seeds), patience=patience)
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


def _run_fast(load: Load, sample: str) -> tuple[Recording, str | None]:
    connections = load.users if load.rate is None else OPEN_LOOP_CONNECTIONS
    outcome = run_fast(
        _fast_load(
            load,
            _payloads(load, sample),
            duration_s=load.duration_s,
            connections=connections,
            rate=load.rate,
            tell=SampleProgress() if load.processes == 1 else None,
        )
    )
    return outcome.recording, outcome.limit


def _fast_load(
    load: Load, payloads: list[bytes], *, duration_s: float, connections: int = OPEN_LOOP_CONNECTIONS,
    rate: float | None = None, seed: int = 0, patience: Patience = FOREVER, tell: Tell | None = None,
) -> FastLoad:  # fmt: skip
    target = parse_url(load.url)
    return FastLoad(
        address=(target.host, target.port),
        payloads=payloads,
        duration_s=duration_s,
        connections=connections,
        rate=rate,
        shape=load.shape if rate == load.rate else "constant",
        processes=load.processes,
        seed=seed,
        patience=patience,
        tell=tell,
    )


def _payloads(load: Load, sample: str) -> list[bytes]:
    target = parse_url(load.url)
    rows = read_sample(sample, target.features(load.model))
    requests = encode(load.wire, load.model, rows, load.rows_per_request)
    return [raw(request, target.host, target.port) for request in with_deadline(requests, load.deadline_s)]
