"""What one request and batches of any size cost an engine, read off its own counters.

They are counted in the very runs of a search: what a machine does in one minute says little of another,
and a closed loop makes batches of one size, which say little of those that random arrivals make.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from load_tests.server_view import Series, buckets_of

MOST_ROWS = 1024
"""Of a batch, where an engine is not told otherwise."""
FULL_SHARE = 0.33
"""An engine without a cap takes half of a closed loop's rows, or all, into a batch."""
N_FACTORS = 400
"""Points of a distribution: enough for four of them to lie beyond its 99th percentile."""
FEW = 5
"""Batches of a size whose mean tells nothing."""
SHARE = 0.7
"""A rate counts as borne where so many runs hold, so the costs are those that so many runs are within."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that an engine is busy.

    Attributes:
        request_s: For each request beside its score: reading, checking, answering.
        curve: Rows of a batch and the seconds it takes, both rising.
        most_rows: Rows in a batch at most.
        replicas: Engines that share the requests evenly.
        scatter: Equally likely factors by which a batch takes longer or shorter; their mean is 1.
    """

    request_s: float
    curve: tuple[tuple[float, float], ...]
    most_rows: int = MOST_ROWS
    replicas: int = 1
    scatter: tuple[float, ...] = (1.0,)

    def by_rows(self) -> list[float]:
        """Seconds of a batch by its rows, from 0 to ``most_rows``.

        Straight lines between the points of the curve; as its first before, in proportion after its last.
        """
        rows, seconds = np.array(self.curve).T
        wanted = np.arange(self.most_rows + 1)
        found = np.interp(wanted, rows, seconds) * np.maximum(1.0, wanted / rows[-1])
        return [float(one) for one in found]


@dataclass(frozen=True, slots=True)
class Size:
    """Batches of about one size: how many, their rows and their seconds in all."""

    batches: float
    rows: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Busy:
    """What an engine counted during a load.

    Attributes:
        requests: Requests that it scored.
        seconds: How long requests were sent.
        sizes: Its batches, those of about one size together, in order.
        cpu_s: Processor time of the engine; ``None`` where it runs elsewhere.
        batch_times: Points (upper edge in seconds, batches within it).
    """

    requests: float
    seconds: float
    sizes: tuple[Size, ...]
    cpu_s: float | None = None
    batch_times: tuple[tuple[float, float], ...] = ()

    @property
    def batch_s(self) -> float:
        """Time in the model."""
        return sum(size.seconds for size in self.sizes)

    @property
    def mean_rows(self) -> float:
        """Of a batch."""
        return sum(size.rows for size in self.sizes) / sum(size.batches for size in self.sizes)


def busy_between(
    before: Series, after: Series, model: str, *, seconds: float, cpu_s: float | None = None
) -> Busy:
    """A load's view, with the engine's counters before and after it."""
    grown = {key: value - before.get(key, 0.0) for key, value in after.items() if ("model", model) in key[1]}

    def of_size(name: str, size: str) -> float:
        return grown.get((name, frozenset({("model", model), ("rows", size)})), 0.0)

    sizes, below = [], 0.0
    for edge, within in buckets_of(grown, "tandem_batch_rows_bucket"):
        label = f"{edge:g}" if math.isfinite(edge) else "+Inf"
        rows, taken_s = (
            of_size(name, label) for name in ("tandem_model_rows_total", "tandem_model_seconds_total")
        )
        if within > below and rows:
            sizes.append(Size(within - below, rows, taken_s))
        below = within
    requests = grown.get(("tandem_request_seconds_count", frozenset({("model", model)})), 0.0)
    return Busy(
        requests, seconds, tuple(sizes), cpu_s, tuple(buckets_of(grown, "tandem_batch_seconds_bucket"))
    )


def costs_of(
    runs: Iterable[Busy], closed: Busy, *, replicas: int = 1, waiting_rows: float = 0.0
) -> Costs | None:
    """The costs behind some runs; ``None`` where the engine did not count, or made hardly a batch.

    Seven runs of ten cost less, as in seven of ten the capacity holds.

    Args:
        runs: At rates where the capacity is looked for.
        closed: A closed loop, whose batches are all about as large: they tell how much one takes longer than
            another. Where nobody knows the engine's processor time, it also tells what requests cost, because
            there the engine was never idle.
        replicas: Engines that shared the requests.
        waiting_rows: What the closed loop kept waiting at each. If its batches are far smaller, they
            are as large as the engine makes them.
    """
    seen = [run for run in runs if run.requests and run.sizes]
    if not seen or not closed.requests or not closed.sizes:
        return None
    if not (curve := _curve(seen) or _curve([closed])):
        return None
    in_runs = [(run.cpu_s - run.batch_s) / run.requests for run in seen if run.cpu_s is not None]
    in_loop = (replicas * closed.seconds - closed.batch_s) / closed.requests
    request_s = max(0.0, float(np.quantile(in_runs, SHARE, method="lower")) if in_runs else in_loop)
    capped = closed.mean_rows < FULL_SHARE * waiting_rows
    most_rows = max(1, round(closed.mean_rows)) if capped else MOST_ROWS
    return Costs(request_s, curve, most_rows, replicas, scatter_of(closed.batch_times))


def _curve(runs: Sequence[Busy]) -> tuple[tuple[float, float], ...]:
    """Rows and seconds of batches of each size, as far as runs saw some of it."""
    means: dict[int, list[tuple[float, float]]] = {}
    for size in (size for run in runs for size in run.sizes if size.batches >= FEW):
        rows = size.rows / size.batches
        means.setdefault(math.ceil(math.log2(rows)), []).append((rows, size.seconds / size.batches))
    points: list[tuple[float, float]] = []
    for _, seen in sorted(means.items()):
        rows, seconds = np.array(seen).T
        taken_s = float(np.quantile(seconds, SHARE, method="lower"))
        points.append((float(np.median(rows)), max(taken_s, points[-1][1] if points else 0.0)))
    return tuple(points)


def scatter_of(times: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    """Equally likely factors of mean 1 behind a histogram; inside a bucket all times are equally likely.

    Args:
        times: Points (upper edge in seconds, observations within it), cumulative; the last may be infinite.
    """
    finite = [(edge, count) for edge, count in times if math.isfinite(edge)]
    if not finite or finite[-1][1] <= 0:
        return (1.0,)
    edges, counts = np.array([(0.0, 0.0), *finite]).T
    shares = (np.arange(N_FACTORS) + 0.5) / N_FACTORS
    factors: NDArray[np.float64] = np.interp(shares * counts[-1], counts, edges)
    return tuple((factors / factors.mean()).tolist())
