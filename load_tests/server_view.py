"""What the engine itself counted during a run, from ``/metrics`` before and after it.

With several replicas on one port each answers with its own counts; a view then is one replica's,
and ``requests`` says how much of the run it saw.
"""

import math
import re
from collections.abc import Mapping

import msgspec

from engine.errors import TandemError
from load_tests.target import Target

_LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Metric name and labels → value."""


class ServerView(msgspec.Struct, frozen=True):
    """The engine's own numbers of a run.

    Attributes:
        requests: Requests that it timed.
        p50_s: Median of its request time, from its histogram's buckets.
        p99_s: Likewise.
        cdf: Points (upper edge in seconds, share of requests within it).
        batch_rows: Points (upper edge in rows, batches in the bucket).
        shed: Requests not scored, by reason.
        stages_s: Mean seconds per request in each stage.
    """

    requests: int
    p50_s: float | None
    p99_s: float | None
    cdf: tuple[tuple[float, float], ...]
    batch_rows: tuple[tuple[float, int], ...]
    shed: dict[str, int]
    stages_s: dict[str, float]


def read_metrics(target: Target) -> Series | None:
    """The engine's metrics now, ``None`` where it has none."""
    try:
        status, text = target.ask("GET", "/metrics")
    except TandemError:
        return None
    return parse_metrics(text) if status == 200 and isinstance(text, str) else None


def parse_metrics(text: str) -> Series:
    """The values in Prometheus' text format."""
    series: Series = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and not line.startswith("#"):
            labels = frozenset((name, value) for name, value in _LABEL.findall(match[2] or ""))
            series[match[1], labels] = float(match[3])
    return series


def buckets_of(series: Series, name: str) -> list[tuple[float, float]]:
    """A histogram's points (upper edge, observations within it), cumulative, in order."""
    found = [
        (float(dict(labels)["le"]), value) for (metric, labels), value in series.items() if metric == name
    ]
    return sorted(found)


def view(before: Series | None, after: Series | None, model: str) -> ServerView | None:
    """What an engine counted for a model between two looks; ``None`` where it did not."""
    if before is None or after is None:
        return None
    grown = {key: value - before.get(key, 0.0) for key, value in after.items() if ("model", model) in key[1]}
    latencies = buckets_of(grown, "tandem_request_seconds_bucket")
    if not latencies or latencies[-1][1] <= 0:
        return None
    total = latencies[-1][1]
    return ServerView(
        requests=int(total),
        p50_s=_quantile(latencies, 0.50),
        p99_s=_quantile(latencies, 0.99),
        cdf=tuple((edge, count / total) for edge, count in latencies if math.isfinite(edge)),
        batch_rows=_differences(buckets_of(grown, "tandem_batch_rows_bucket")),
        shed=_by_label(grown, "tandem_shed_total", "reason"),
        stages_s=_mean_stages(grown),
    )


def _differences(buckets: list[tuple[float, float]]) -> tuple[tuple[float, int], ...]:
    counts = [count for _, count in buckets]
    steps = [after - before for before, after in zip([0.0, *counts], counts, strict=False)]
    return tuple(
        (edge, int(n)) for (edge, _), n in zip(buckets, steps, strict=True) if n and math.isfinite(edge)
    )


def _quantile(buckets: list[tuple[float, float]], share: float) -> float | None:
    """As Prometheus' ``histogram_quantile``: linear inside a bucket."""
    needed, lower, below = buckets[-1][1] * share, 0.0, 0.0
    for edge, count in buckets:
        if count >= needed:
            if math.isinf(edge):
                return lower
            return lower + (edge - lower) * (needed - below) / max(count - below, 1e-12)
        lower, below = edge, count
    return None


def _by_label(series: Series, name: str, label: str) -> dict[str, int]:
    found = {dict(labels)[label]: int(value) for (metric, labels), value in series.items() if metric == name}
    return {key: count for key, count in found.items() if count}


def _mean_stages(series: Series) -> dict[str, float]:
    sums: Mapping[str, float] = _plain(series, "tandem_stage_seconds_sum")
    counts = _plain(series, "tandem_stage_seconds_count")
    return {stage: sums[stage] / counts[stage] for stage in sums if counts.get(stage)}


def _plain(series: Series, name: str) -> dict[str, float]:
    return {dict(labels)["stage"]: value for (metric, labels), value in series.items() if metric == name}
