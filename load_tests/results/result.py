"""The result of a load test: one value, whichever generator made it; written as JSON."""

import csv
import math
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.errors import InvalidConfig, NotFound
from load_tests.payloads.wire import Wire
from load_tests.results.histogram import LatencyHistogram
from load_tests.results.recording import Recording
from load_tests.results.slo import Verdict
from load_tests.server_view import ServerView
from load_tests.shapes import Shape
from load_tests.watching import MachineMoment

Written = TypeVar("Written", bound=msgspec.Struct)


class Load(msgspec.Struct, frozen=True):
    """What was asked for.

    Attributes:
        url: The engine.
        model: The model scored.
        wire: The request's format.
        generator: ``locust`` or ``fast``.
        duration_s: How long requests were sent.
        rows_per_request: Rows in each request.
        users: Concurrent requests of a closed loop, or at most so many of an open one.
        rate: Requests a second that arrive, answered or not; ``None`` in a closed loop.
        shape: How the load moves over the run.
        processes: Processes that generated it.
        deadline_s: What each request says it waits at most; ``None`` leaves it to the engine.
        grpc_port: Where the engine speaks gRPC; only with ``grpc``.
    """

    url: str
    model: str
    wire: Wire
    generator: str
    duration_s: float
    rows_per_request: int
    users: int
    rate: float | None = None
    shape: Shape = "constant"
    processes: int = 1
    deadline_s: float | None = None
    grpc_port: int | None = None


class Latency(msgspec.Struct, frozen=True):
    """Percentiles of latency in seconds; ``None`` where nothing was answered."""

    p50_s: float | None
    p90_s: float | None
    p95_s: float | None
    p99_s: float | None
    p999_s: float | None
    mean_s: float | None
    highest_s: float | None


class Moment(msgspec.Struct, frozen=True):
    """One second of the run: outcomes of the requests due in it, and their latency."""

    second: int
    ok: int
    shed: int
    failed: int
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    p999_s: float | None


class LoadResult(msgspec.Struct, frozen=True):
    """A finished load test.

    Attributes:
        load: What was asked for.
        ok: Requests answered with scores.
        shed: Requests refused by policy or past their deadline (429, 503, 504).
        failed: Other answers, and none at all.
        qps: Requests answered a second.
        rows_per_s: Rows scored a second.
        latency: Of the requests answered, from when they were due.
        refusal: Of the requests shed.
        delay: How late the generator sent requests; empty in a closed loop.
        moments: The run second by second.
        cdf: Points (latency in seconds, share of requests within it).
        errors: Reason → count of the failed requests.
        generator_limit: Why the generator, not the engine, may have set these numbers.
        verdict: Whether the stated SLO was kept, where one was stated.
        server: The engine's own numbers of the run, where it has any.
        machine: Processor and memory over the run.
    """

    load: Load
    ok: int
    shed: int
    failed: int
    qps: float
    rows_per_s: float
    latency: Latency
    refusal: Latency
    delay: Latency
    moments: tuple[Moment, ...]
    cdf: tuple[tuple[float, float], ...]
    errors: dict[str, int]
    generator_limit: str | None = None
    verdict: Verdict | None = None
    server: ServerView | None = None
    machine: tuple[MachineMoment, ...] = ()

    @property
    def requests(self) -> int:
        """Requests sent."""
        return self.ok + self.shed + self.failed


def summarise(
    load: Load,
    recording: Recording,
    *,
    generator_limit: str | None = None,
    verdict: Verdict | None = None,
    server: ServerView | None = None,
    machine: tuple[MachineMoment, ...] = (),
) -> LoadResult:
    """The result that a recording amounts to, with what else was seen."""
    together = recording.latencies()
    return LoadResult(
        load=load,
        ok=together.n,
        shed=sum(second.shed for second in recording.seconds.values()),
        failed=sum(second.failed for second in recording.seconds.values()),
        qps=together.n / load.duration_s,
        rows_per_s=together.n * load.rows_per_request / load.duration_s,
        latency=latency_of(together),
        refusal=latency_of(recording.refusals),
        delay=latency_of(recording.delays),
        moments=_moments(recording),
        cdf=tuple(together.cdf()),
        errors=dict(sorted(recording.errors.items(), key=lambda item: -item[1])),
        generator_limit=generator_limit,
        verdict=verdict,
        server=server,
        machine=machine,
    )


def latency_of(histogram: LatencyHistogram) -> Latency:
    """The percentiles of a histogram."""
    percents = histogram.percentiles((50, 90, 95, 99, 99.9))
    values = (*percents, histogram.mean_s, histogram.highest_s if histogram.n else math.nan)
    return Latency(*(None if math.isnan(value) else value for value in values))


def _moments(recording: Recording) -> tuple[Moment, ...]:
    moments = []
    for at, second in sorted(recording.seconds.items()):
        latency = latency_of(second.latencies)
        percentiles = (latency.p50_s, latency.p90_s, latency.p99_s, latency.p999_s)
        moments.append(Moment(at, second.ok, second.shed, second.failed, *percentiles))
    return tuple(moments)


def write_json(value: msgspec.Struct, path: str | Path) -> None:
    """Write a result as JSON."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def write_csv(result: LoadResult, path: str | Path) -> None:
    """Write the run second by second, one line each."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, Moment.__struct_fields__)
        writer.writeheader()
        writer.writerows(msgspec.structs.asdict(moment) for moment in result.moments)


def read_result(path: str | Path) -> LoadResult:
    """Read a result that ``write_json`` wrote; raises ``NotFound`` or ``InvalidConfig``."""
    return read_json(path, LoadResult)


def read_json(path: str | Path, type_: type[Written]) -> Written:
    """Read a result of some type; raises ``NotFound`` or ``InvalidConfig``."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=type_)
    except OSError as error:
        raise NotFound(f"expected the result of a run at {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise InvalidConfig(f"expected the result of a run in {path}: {error}") from error
