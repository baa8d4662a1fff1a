"""What one request, one batch and one row cost an engine, read off its own counters.

Two closed loops, one narrow and one wide, tell what batches cost. In a closed loop requests come in
bunches, as soon as others are answered; at random times each wakes the engine by itself, which costs
more. Where the engine runs on this machine its processor time under random arrivals tells how much.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from load_tests.server_view import Series, buckets_of

MOST_ROWS = 1024
"""Of a batch, where an engine is not told otherwise."""
FULL_SHARE = 0.33
"""An engine without a cap takes half of a closed loop's rows, or all, into a batch."""
N_FACTORS = 400
"""Points of a distribution: enough for four of them to lie beyond its 99th percentile."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that an engine is busy.

    Attributes:
        request_s: For each request beside its score: reading, checking, answering.
        batch_s: For each batch, however small.
        row_s: For each row of a batch.
        most_rows: Rows in a batch at most.
        replicas: Engines that share the requests evenly.
        scatter: Equally likely factors by which a batch takes longer or shorter; their mean is 1.
    """

    request_s: float
    batch_s: float
    row_s: float
    most_rows: int = MOST_ROWS
    replicas: int = 1
    scatter: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, slots=True)
class Busy:
    """What short loads saw of an engine; two of the same kind add up to a longer one.

    Attributes:
        requests: Requests answered.
        seconds: Wall time.
        batches: Batches that the engine scored.
        rows: Rows in them.
        batch_seconds: Time in the model.
        cpu_seconds: Processor time of the engine; None where it runs elsewhere.
        batch_times: Points (upper edge in seconds, batches within it).
    """

    requests: float
    seconds: float
    batches: float
    rows: float
    batch_seconds: float
    cpu_seconds: float | None = None
    batch_times: tuple[tuple[float, float], ...] = ()

    def __add__(self, other: "Busy") -> "Busy":
        cpu_s = None
        if self.cpu_seconds is not None and other.cpu_seconds is not None:
            cpu_s = self.cpu_seconds + other.cpu_seconds
        mine, others = dict(self.batch_times), dict(other.batch_times)
        times = tuple((edge, mine.get(edge, 0.0) + others.get(edge, 0.0)) for edge in sorted(mine | others))
        return Busy(
            self.requests + other.requests,
            self.seconds + other.seconds,
            self.batches + other.batches,
            self.rows + other.rows,
            self.batch_seconds + other.batch_seconds,
            cpu_s,
            times,
        )


def busy_between(
    before: Series,
    after: Series,
    model: str,
    *,
    requests: int,
    seconds: float,
    cpu_seconds: float | None = None,
) -> Busy:
    """A load's view, with the engine's counters before and after it."""
    grown = {key: value - before.get(key, 0.0) for key, value in after.items() if ("model", model) in key[1]}

    def total(name: str) -> float:
        return grown.get((name, frozenset({("model", model)})), 0.0)

    return Busy(
        requests,
        seconds,
        total("tandem_batch_rows_count"),
        total("tandem_batch_rows_sum"),
        total("tandem_batch_seconds_sum"),
        cpu_seconds,
        tuple(buckets_of(grown, "tandem_batch_seconds_bucket")),
    )


def costs_of(
    narrow: Busy,
    wide: Busy,
    scattered: Busy | None = None,
    *,
    replicas: int = 1,
    waiting_rows: float = 0.0,
) -> Costs | None:
    """The costs behind two closed loops and an open one; ``None`` where the engine did not count batches.

    Two batch sizes give a line, its offset and slope; what the wide loop's throughput leaves is
    the request's own cost, because there the engine was never idle. Where requests come ``scattered``
    it is the processor time that they took, without the model's, if that is more. Batches far smaller
    than the rows that the wide loop kept waiting at each replica are as large as the engine makes them.
    All batches of the wide loop are about as large, so what they took tells how it scatters.
    """
    if min(narrow.batches, wide.batches, wide.requests) <= 0:
        return None
    small, large = narrow.rows / narrow.batches, wide.rows / wide.batches
    low_s, high_s = narrow.batch_seconds / narrow.batches, wide.batch_seconds / wide.batches
    row_s = max(0.0, (high_s - low_s) / (large - small)) if large > small else low_s / small
    batch_s = max(0.0, low_s - row_s * small)
    loop_s = replicas * wide.seconds / wide.requests
    request_s = max(loop_s - replicas * wide.batch_seconds / wide.requests, 0.0)
    if scattered is not None and scattered.cpu_seconds is not None and scattered.requests:
        request_s = max(request_s, (scattered.cpu_seconds - scattered.batch_seconds) / scattered.requests)
    most_rows = max(1, round(large)) if large < FULL_SHARE * waiting_rows else MOST_ROWS
    return Costs(request_s, batch_s, row_s, most_rows, replicas, scatter_of(wide.batch_times))


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
    factors = np.interp(shares * counts[-1], counts, edges)
    return tuple((factors / factors.mean()).tolist())
