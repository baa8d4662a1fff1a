"""Runs a planned load, and gathers what engine and machine say of it."""

from load_tests.fast.generator import FOREVER, Patience, Tell
from load_tests.fast.run import OPEN_LOOP_CONNECTIONS, FastLoad, run_fast
from load_tests.locust_run import run_locust
from load_tests.payloads.sample import read_sample
from load_tests.payloads.wire import encode, raw, with_deadline
from load_tests.progress import SampleProgress, show_live
from load_tests.results.recording import Recording
from load_tests.results.result import Load, LoadResult, summarise
from load_tests.results.slo import Promise, judge
from load_tests.server_view import read_metrics, view
from load_tests.target import parse_url
from load_tests.watching import watching


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


def _run_fast(load: Load, sample: str) -> tuple[Recording, str | None]:
    connections = load.users if load.rate is None else OPEN_LOOP_CONNECTIONS
    outcome = run_fast(
        fast_load(
            load,
            payloads_of(load, sample),
            duration_s=load.duration_s,
            connections=connections,
            rate=load.rate,
            tell=SampleProgress() if load.processes == 1 else None,
        )
    )
    return outcome.recording, outcome.limit


def fast_load(
    load: Load, payloads: list[bytes], *, duration_s: float, connections: int = OPEN_LOOP_CONNECTIONS,
    rate: float | None = None, seed: int = 0, patience: Patience = FOREVER, tell: Tell | None = None,
) -> FastLoad:  # fmt: skip
    """A load for the fast generator; what is not given is the plan's."""
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


def payloads_of(load: Load, sample: str) -> list[bytes]:
    """The raw requests of a load, which rotate."""
    target = parse_url(load.url)
    rows = read_sample(sample, target.features(load.model))
    requests = encode(load.wire, load.model, rows, load.rows_per_request)
    return [raw(request, target.host, target.port) for request in with_deadline(requests, load.deadline_s)]
