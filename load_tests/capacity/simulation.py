"""Predicts an engine's latency and capacity from its costs, with the engine's own admission and queue.

A replica is one loop: it reads what has arrived, scores it together, answers, and looks again. What is
dear to score is scored in a thread, while the loop reads and answers. Who is admitted and what goes into
a batch is decided by the very objects that decide in the engine, which learn here from simulated batches.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.realtime.batching.admission import Admission
from engine.realtime.batching.batcher import INLINE_S
from engine.realtime.batching.queueing import Batch, Queue, Ticket
from load_tests.capacity.costs import Costs
from load_tests.capacity.search import Capacity, Trial, find_max
from load_tests.results.slo import Promise
from load_tests.shapes import poisson_arrivals

SIMULATED_REQUESTS = 8_000
SEED = 7
N_TIMED = 4
"""Batches of each size that the engine times before it serves, of which it believes the fastest."""


def simulate(
    costs: Costs,
    arrivals: Sequence[float] | NDArray[np.float64],
    *,
    promise_s: float,
    rows_per_request: int = 1,
) -> NDArray[np.float64]:
    """Latency in seconds of each arrival at one replica; infinite where it was refused.

    Args:
        costs: Of the engine.
        arrivals: Seconds, rising.
        promise_s: What the engine promises.
        rows_per_request: Rows in each.
    """
    return _Replica(costs, promise_s).run(np.asarray(arrivals).tolist(), rows_per_request, promise_s)


def simulated_trial(costs: Costs, promise: Promise, rate: float, *, rows_per_request: int = 1) -> Trial:
    """What a Poisson rate would come to."""
    arrivals = _arrivals(costs, rate)
    latencies = simulate(costs, arrivals, promise_s=promise.limit_s, rows_per_request=rows_per_request)
    n_late = int((latencies > promise.limit_s).sum())
    goodput = rate * (len(latencies) - n_late) / max(1, len(latencies))
    answered = latencies[np.isfinite(latencies)]
    p50_s, p99_s = np.percentile(answered, (50, 99)).tolist() if len(answered) else (None, None)
    return Trial(rate, len(latencies), n_late, goodput, p50_s, p99_s)


def predict(costs: Costs, promise: Promise, *, first_guess: float, rows_per_request: int = 1) -> Capacity:
    """The capacity that the costs amount to, by the search that a real engine is put to."""

    def run(rate: float, _: bool) -> Trial:
        return simulated_trial(costs, promise, rate, rows_per_request=rows_per_request)

    return find_max(promise, run, first_guess=first_guess)


def _arrivals(costs: Costs, rate: float) -> NDArray[np.float64]:
    """At one replica."""
    random_arrivals = np.random.default_rng(SEED)
    return poisson_arrivals(
        rate / costs.replicas, SIMULATED_REQUESTS * costs.replicas / rate, random=random_arrivals
    )


class _Request(Ticket, eq=False, kw_only=True):
    index: int


class _Replica:
    """One loop and its model, at simulated times."""

    def __init__(self, costs: Costs, promise_s: float) -> None:
        self._costs = costs
        self._by_rows = costs.by_rows()
        self._chance = random.Random(SEED)
        self._admission = Admission(promise_s, costs.most_rows)
        self._learn_costs()
        self._queue: Queue[_Request] = Queue(self._admission.max_rows)
        self._now_s = 0.0
        self._batch: Batch[_Request] = Batch()
        self._started_s = self._expected_s = 0.0
        self._ends_s = math.inf
        self._scored: list[tuple[Batch[_Request], float]] = []

    def run(self, arrivals: list[float], n_rows: int, budget_s: float) -> NDArray[np.float64]:
        """Latencies; infinite where refused."""
        latencies, read = np.full(len(arrivals), np.inf), 0
        while read < len(arrivals) or self._ends_s < math.inf:
            next_s = arrivals[read] if read < len(arrivals) else math.inf
            self._now_s = max(self._now_s, min(next_s, self._ends_s))
            self._score_until_now()
            self._answer(latencies)
            ready = bisect_right(arrivals, self._now_s, read)
            for index in range(read, ready):
                self._read(index, n_rows, arrivals[index], budget_s)
            read = ready
            if self._ends_s == math.inf and self._queue.n_rows:
                self._wake_model()
                self._answer(latencies)
        return latencies

    def _learn_costs(self) -> None:
        """As the engine does before it serves."""
        rows, cost_s = 1, 0.0
        while rows <= self._admission.most_rows and cost_s < self._admission.slo_s:
            cost_s = min(self._cost_s(rows) for _ in range(N_TIMED))
            self._admission.observe(rows, cost_s)
            rows *= 2
        self._admission.settle()

    def _cost_s(self, n_rows: int) -> float:
        return self._by_rows[n_rows] * self._chance.choice(self._costs.scatter)

    def _read(self, index: int, n_rows: int, arrived_s: float, budget_s: float) -> None:
        self._now_s += self._costs.request_s / 2
        self._score_until_now()
        refusal = self._admission.refusal(
            n_rows,
            budget_s=arrived_s + budget_s - self._now_s,
            small_rows=self._queue.small_rows,
            large_rows=self._queue.large_rows,
            rest_s=max(1e-6, self._expected_s - self._now_s) if self._ends_s < math.inf else 0.0,
            unread_s=self._now_s - arrived_s,
        )
        if refusal is None:
            self._queue.push(_Request("one", n_rows, arrived_s, arrived_s + budget_s, index=index))

    def _wake_model(self) -> None:
        self._start(self._now_s)
        if self._ends_s < math.inf and self._admission.costs.typical_s(self._batch.n_rows) <= INLINE_S:
            self._now_s = self._ends_s
            self._finish()

    def _score_until_now(self) -> None:
        """What the thread does meanwhile: one batch after the other."""
        while self._ends_s <= self._now_s:
            ended_s = self._ends_s
            self._finish()
            self._start(ended_s)

    def _start(self, now_s: float) -> None:
        self._batch = self._queue.take(now_s)
        self._admission.batch_taken(self._batch.n_rows)
        if self._batch.slices:
            self._started_s, self._ends_s = now_s, now_s + self._cost_s(self._batch.n_rows)
            self._expected_s = now_s + self._admission.costs.typical_s(self._batch.n_rows)

    def _finish(self) -> None:
        self._admission.observe(self._batch.n_rows, self._ends_s - self._started_s)
        self._queue.max_rows = self._admission.max_rows
        self._scored.append((self._batch, self._ends_s))
        self._ends_s = math.inf

    def _answer(self, latencies: NDArray[np.float64]) -> None:
        for batch, ended_s in self._scored:
            self._now_s = max(self._now_s, ended_s)
            self._admission.observe_lag(self._now_s - ended_s)
            for part in batch.slices:
                request = part.ticket
                if part.stop == request.n_rows:
                    self._now_s += self._costs.request_s / 2
                    latencies[request.index] = self._now_s - request.arrived_s
        self._scored.clear()
