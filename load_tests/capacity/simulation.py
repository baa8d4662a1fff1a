"""Predicts an engine's latency and capacity from what one request, one batch and one row cost.

A replica is one loop: it reads what has arrived, scores it together, answers, and looks again. What is
dear to score is scored in a thread, while the loop reads and answers.
The costs are measured in two short closed loops, one narrow and one wide, from the engine's own
counters and the throughput seen from outside. In a closed loop requests come in bunches, as soon as
others are answered; at random times each wakes the engine by itself, which costs more. Where the
engine runs on this machine its processor time under random arrivals tells how much.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.realtime.batching.batcher import INLINE_S
from load_tests.capacity.search import Capacity, Trial, find_max
from load_tests.results.slo import Promise
from load_tests.server_view import Series
from load_tests.shapes import poisson_arrivals

SIMULATED_S = 4.0
SEED = 7
FULL_SHARE = 0.33
"""A replica without a cap takes half of a closed loop's rows, or all, into a batch."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that an engine's loop is busy.

    Attributes:
        request_s: For each request beside its score: reading, checking, answering.
        batch_s: For each batch, however small.
        row_s: For each row of a batch.
        max_batch_rows: Rows in a batch at most.
        replicas: Loops that share the requests evenly.
    """

    request_s: float
    batch_s: float
    row_s: float
    max_batch_rows: int = 1024
    replicas: int = 1

    @property
    def in_thread(self) -> bool:
        """Whether the engine scores in a thread, so that requests cost the loop time and batches do not."""
        return self.batch_s + self.row_s > INLINE_S


@dataclass(frozen=True, slots=True)
class Busy:
    """What one short load saw of an engine.

    Attributes:
        requests: Requests answered.
        seconds: Wall time.
        batches: Batches that the engine scored.
        rows: Rows in them.
        batch_seconds: Time in the model.
        cpu_seconds: Processor time of the engine; None where it runs elsewhere.
    """

    requests: float
    seconds: float
    batches: float
    rows: float
    batch_seconds: float
    cpu_seconds: float | None = None


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

    def grown(name: str) -> float:
        key = (name, frozenset({("model", model)}))
        return after.get(key, 0.0) - before.get(key, 0.0)

    return Busy(
        requests,
        seconds,
        grown("tandem_batch_rows_count"),
        grown("tandem_batch_rows_sum"),
        grown("tandem_batch_seconds_sum"),
        cpu_seconds,
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
    if large < FULL_SHARE * waiting_rows:
        return Costs(request_s, batch_s, row_s, max(1, round(large)), replicas)
    return Costs(request_s, batch_s, row_s, replicas=replicas)


def simulate(
    costs: Costs,
    arrivals: NDArray[np.float64],
    *,
    rows_per_request: int = 1,
    deadline_s: float = np.inf,
) -> NDArray[np.float64]:
    """Latency in seconds of each arrival at one replica; infinite where it waited past its deadline.

    As the engine does, a request that has waited too long is refused and costs nothing.
    """
    latencies = np.empty_like(arrivals)
    at_most = max(1, costs.max_batch_rows // rows_per_request)
    beside_s, own_s = (costs.request_s, 0.0) if costs.in_thread else (0.0, costs.request_s)
    free_at, first = 0.0, 0
    while first < len(arrivals):
        start = max(free_at, arrivals[first])
        alive = int(np.searchsorted(arrivals, start - deadline_s))
        if alive > first:
            latencies[first:alive] = np.inf
            first = alive
            continue
        end = min(int(np.searchsorted(arrivals, start, "right")), first + at_most)
        n = end - first
        free_at = start + costs.batch_s + n * (own_s + rows_per_request * costs.row_s)
        latencies[first:end] = free_at + beside_s - arrivals[first:end]
        first = end
    return latencies


def simulated_trial(costs: Costs, promise: Promise, rate: float, *, rows_per_request: int = 1) -> Trial:
    """What a Poisson rate would come to."""
    random = np.random.default_rng(SEED)
    arrivals = poisson_arrivals(rate / costs.replicas, SIMULATED_S, random=random)
    latencies = simulate(costs, arrivals, rows_per_request=rows_per_request, deadline_s=promise.limit_s)
    n_late = int((latencies > promise.limit_s).sum())
    goodput = costs.replicas * (len(latencies) - n_late) / SIMULATED_S
    answered = latencies[np.isfinite(latencies)]
    p50_s, p99_s = np.percentile(answered, (50, 99)).tolist() if len(answered) else (None, None)
    return Trial(rate, len(latencies), n_late, goodput, p50_s, p99_s)


def predict(costs: Costs, promise: Promise, *, first_guess: float, rows_per_request: int = 1) -> Capacity:
    """The capacity that the costs amount to, by the search that a real engine is put to."""

    def run(rate: float, _: bool) -> Trial:
        return simulated_trial(costs, promise, rate, rows_per_request=rows_per_request)

    return find_max(promise, run, first_guess=first_guess)
