"""The batcher of one model: rows in, scores out, greedily batched.

The shell around ``queueing`` and ``admission``: it holds the futures, calls the model on the loop or
in a thread, and wakes whoever waits. When the model is free it takes what is queued, at once; what
comes meanwhile is the next batch.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import msgspec

from engine.errors import DeadlineExceeded, Overloaded, ScoringFailed
from engine.realtime.batching.admission import Admission, Costs, Refusal
from engine.realtime.batching.bisection import Block, score_bisected
from engine.realtime.batching.queueing import Batch, Queue
from engine.realtime.batching.waiting import NO_ROWS, NOBODY, Result, Waiter, Waiting, give_part, joined, tell
from engine.realtime.threads import thread_behind_the_loop

log = logging.getLogger(__name__)

INLINE_S = 0.0005
"""A batch that takes less, typically, runs on the loop: a thread and back is a fifth of it."""

MAX_WAITING_BYTES = 256 << 20
"""More rows never wait in a batcher, whatever the promise."""
TICKET_BYTES = 1024
"""What a request that waits takes beside its rows."""


class Rows(Protocol):
    """What a batcher needs of a model."""

    def score_rows(self, X: Any) -> Any:
        """Scores ``[n, K]`` of a prepared block ``[n, F]``."""


class Outcome(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A batch after the call of its model."""

    batch: Batch[Waiting]
    scores: Block
    failed: dict[int, str]
    cost_s: float
    ended_s: float


class Observer(Protocol):
    """Who counts what a batcher does."""

    def batch_scored(self, n_rows: int, cost_s: float) -> None:
        """One call of the model is over."""

    def request_shed(self, reason: str) -> None:
        """A request was not scored: ``overloaded``, ``expired`` or ``cancelled``."""


class Batcher:
    """The queue and the executor of one model.

    Args:
        admission: The policy; it learns from the batcher's batches.
        observer: Counts.
        clock: Monotonic seconds.

    Attributes:
        is_dear: One row already takes so long that it is scored in a thread.
    """

    def __init__(
        self,
        admission: Admission,
        observer: Observer,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.admission = admission
        self.queue = Queue[Waiting](admission.max_rows)
        self.is_dear = False
        self.settle()
        self._observer = observer
        self._clock = clock
        self._lock = threading.Lock()
        self._busy_until_s = 0.0
        self._scheduled = False
        self._scheduled_s = 0.0
        self._ran_s = self._ran_before_s = -math.inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: ThreadPoolExecutor | None = None

    def submit(self, model: Rows, X: Block, arrived_s: float, budget_s: float, waiter: Waiter) -> Waiting:
        """Let a block of at least one row wait for its scores; raises ``Overloaded``.

        Args:
            model: Scores it.
            X: Prepared rows; not copied.
            arrived_s: When the request came, by the batcher's clock.
            budget_s: How long after that an answer is worth something.
            waiter: Is told.
        """
        loop = self._loop = self._loop or asyncio.get_running_loop()
        now_s, deadline_s = self._clock(), arrived_s + budget_s
        with self._lock:
            refusal = self._refusal(len(X), X.nbytes, now_s, deadline_s - now_s)
            if refusal is not None:
                self._observer.request_shed("overloaded")
                raise _overloaded(refusal, self.admission.slo_s)
            ticket = Waiting(model, len(X), arrived_s, deadline_s, X=X, queued_s=now_s, waiter=waiter)
            self.queue.push(ticket)
            if not self._scheduled:
                self._scheduled, self._scheduled_s = True, now_s
                loop.call_soon(self._run)
        return ticket

    def may_refuse(self, unread_s: float = 0.0) -> bool:
        """Whether ``refuses`` may be true: something is under way, or lay in its socket."""
        return bool(self._busy_until_s or unread_s)

    def refuses(self, deadline_s: float, unread_s: float = 0.0) -> bool:
        """Whether not even one row would be answered in time; counts it if so. Nothing need be decoded.

        Args:
            deadline_s: When an answer is worth nothing any more, by the batcher's clock.
            unread_s: How long the request lay in its socket before now.
        """
        if not self.may_refuse(unread_s):
            return False
        now_s = self._clock()
        with self._lock:
            refused = self._refusal(1, 0, now_s, deadline_s - now_s, unread_s) is not None
        if refused:
            self._observer.request_shed("overloaded")
        return refused

    def unread_s(self) -> float:
        """How long a request that is read now can have lain in its socket, at most.

        The loop looks at all sockets between two runs of this batcher. So what it reads now came after
        the last run but one; else it would have been read before the last.
        """
        return self._clock() - self._ran_before_s

    def settle(self) -> None:
        """Follow what the admission has learned."""
        self.queue.max_rows = self.admission.max_rows
        self.is_dear = self.admission.row_s > INLINE_S

    def adopt(self, costs: Costs) -> None:
        """Believe other costs from now on: those that were measured."""
        with self._lock:
            self.admission.adopt(costs)
            self.settle()

    def cancel(self, ticket: Waiting) -> None:
        """Forget a request that nobody waits for any more; only its place in the queue may be left."""
        with self._lock:
            self.queue.cancel(ticket)
            ticket.waiter = NOBODY
            if not ticket.taken_rows:
                ticket.X = NO_ROWS
        self._observer.request_shed("cancelled")

    def close(self) -> None:
        """Let the thread end, if there is one."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    def _refusal(
        self, n_rows: int, n_bytes: int, now_s: float, budget_s: float, unread_s: float = 0.0
    ) -> Refusal | str | None:
        queue = self.queue
        refusal = self.admission.refusal(
            n_rows,
            budget_s=budget_s,
            small_rows=queue.small_rows,
            large_rows=queue.large_rows,
            rest_s=max(1e-6, self._busy_until_s - now_s) if self._busy_until_s else 0.0,
            unread_s=unread_s,
        )
        waiting_bytes = queue.n_rows * n_bytes // n_rows + queue.n_tickets * TICKET_BYTES
        if refusal is None and waiting_bytes > MAX_WAITING_BYTES:
            return f"{queue.n_rows} rows wait, which is all that memory is kept for"
        return refusal

    def _run(self) -> None:
        now_s = self._clock()
        self._ran_s, self._ran_before_s = now_s, self._ran_s
        with self._lock:
            self.admission.observe_lag(now_s - self._scheduled_s)
            batch = self._take(now_s)
            inline = not batch.slices or self.admission.costs.typical_s(batch.n_rows) <= INLINE_S
        if not batch.slices:
            self._drop(batch)
        elif inline:
            self._run_here(batch)
        else:
            self._hand_to_thread(batch)

    def _run_here(self, batch: Batch[Waiting]) -> None:
        try:
            outcome = self._score(batch)
        except Exception as error:  # noqa: BLE001 told and logged
            self._fail(batch, error)
        else:
            self._deliver(outcome)
            self._learn(outcome)  # when everybody has an answer
        finally:
            self._schedule_rest()

    def _hand_to_thread(self, batch: Batch[Waiting]) -> None:
        self._thread = self._thread or thread_behind_the_loop("score")
        try:
            self._thread.submit(self._run_in_thread, batch)
        except Exception as error:  # noqa: BLE001 told and logged: the system has no thread to give
            self._thread = None  # what it was given must not be scored later
            self._fail(batch, error)
            self._schedule_rest()

    def _schedule_rest(self) -> None:
        with self._lock:
            self._busy_until_s = 0.0
            self._scheduled = self.queue.n_rows > 0
            if self._scheduled and self._loop is not None:
                self._scheduled_s = self._clock()
                self._loop.call_soon(self._run)

    def _run_in_thread(self, batch: Batch[Waiting]) -> None:
        while batch.slices and self._loop is not None:
            try:
                outcome = self._score(batch)
                self._learn(outcome)
                end = partial(self._deliver, outcome)
            except Exception as error:  # noqa: BLE001 told and logged
                end = partial(self._fail, batch, error)
            with self._lock:
                batch = self._take(self._clock())
            self._loop.call_soon_threadsafe(end)
        if batch.expired and self._loop is not None:
            self._loop.call_soon_threadsafe(self._drop, batch)

    def _take(self, now_s: float) -> Batch[Waiting]:
        """The next batch, under the lock; an empty one leaves the batcher idle."""
        batch = self.queue.take(now_s)
        self.admission.batch_taken(batch.n_rows)
        if batch.slices:
            self._busy_until_s = now_s + self.admission.costs.typical_s(batch.n_rows)
        else:
            self._busy_until_s = 0.0
            self._scheduled = False
        return batch

    def _score(self, batch: Batch[Waiting]) -> Outcome:
        started_s = self._clock()
        X = joined(batch)
        model: Rows = batch.slices[0].ticket.group  # type: ignore[assignment]
        failed: dict[int, str] = {}
        try:
            scores = model.score_rows(X)
        except Exception:
            log.exception("a batch of %d rows raised; looking for the row", batch.n_rows)
            scores, failed = score_bisected(model.score_rows, X)
        ended_s = self._clock()
        return Outcome(batch, scores, failed, ended_s - started_s, ended_s)

    def _learn(self, outcome: Outcome) -> None:
        with self._lock:
            self.admission.observe(outcome.batch.n_rows, outcome.cost_s)
            self.settle()

    def _deliver(self, outcome: Outcome) -> None:
        batch = outcome.batch
        try:
            self._hand_out(outcome)
        except Exception as error:  # noqa: BLE001 told and logged
            self._fail(batch, error)
        else:
            if batch.expired:
                self._drop(batch)
        self._observer.batch_scored(batch.n_rows, outcome.cost_s)
        self.admission.observe_lag(self._clock() - outcome.ended_s)

    def _hand_out(self, outcome: Outcome) -> None:
        batch, scores = outcome.batch, outcome.scores
        at = 0
        for part in batch.slices:
            ticket = part.ticket
            stop = at + part.stop - part.start
            if stop - at == ticket.n_rows:
                ticket.scores = scores[at:stop]
            else:
                give_part(ticket, part.start, part.stop, scores[at:stop])
            ticket.score_s += outcome.cost_s
            if outcome.failed:
                ticket.failed |= {
                    row - at + part.start: reason
                    for row, reason in outcome.failed.items()
                    if at <= row < stop
                }
            if part.stop == ticket.n_rows:
                queue_s = ticket.started_s - ticket.queued_s
                tell(ticket, Result(ticket.scores, ticket.failed, queue_s, ticket.score_s))  # type: ignore[arg-type]
            at = stop

    def _fail(self, batch: Batch[Waiting], error: Exception) -> None:
        """Tell a batch's requests that there are no scores, for a reason that is not in their rows."""
        log.error("a batch of %d rows was given up", batch.n_rows, exc_info=error)
        for part in batch.slices:
            with self._lock:
                self.queue.cancel(part.ticket)
            tell(
                part.ticket, ScoringFailed("its batch could not be scored; the engine's log has the details")
            )
        self._drop(batch)

    def _drop(self, batch: Batch[Waiting]) -> None:
        for ticket in batch.expired:
            self._observer.request_shed("expired")
            waited_s = ticket.deadline_s - ticket.arrived_s
            late = f"the deadline passed, {waited_s:.3g} s after arrival, before a score was there"
            tell(ticket, DeadlineExceeded(late))


def _overloaded(refusal: Refusal | str, slo_s: float) -> Overloaded:
    # Not where it is raised: an error and the frame that names it would keep each other alive.
    error = Overloaded(f"not in time: {refusal}; try again later, or with a later deadline")
    error.retry_after_s = slo_s
    return error
