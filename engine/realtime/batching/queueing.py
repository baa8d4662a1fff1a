"""What waits for a model and what goes into its next batch: decisions on values, time passed in.

Requests of at most a batch wait in the small queue, longer ones in the large one. Batches are filled
to the last row, a request may be cut anywhere. Where both queues hold something they fill every
other batch first, so that neither blocks the other. A cancelled request costs nothing but its place.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec


class Ticket(msgspec.Struct, eq=False):
    """One request on its way.

    Attributes:
        group: The revision that prepared the rows; a batch has one group.
        n_rows: Rows in all, at least one.
        arrived_s: When it came.
        deadline_s: When its answer is worth nothing any more.
        taken_rows: How many went into batches.
        started_s: When the first of them did.
        cancelled: Nobody waits for the answer any more.
        large: It waits in the large queue.
    """

    group: object
    n_rows: int
    arrived_s: float
    deadline_s: float
    taken_rows: int = 0
    started_s: float = 0.0
    cancelled: bool = False
    large: bool = False


T = TypeVar("T", bound=Ticket)


class Slice(msgspec.Struct, Generic[T], frozen=True, eq=False, gc=False):
    """Rows ``start`` to ``stop`` of a ticket."""

    ticket: T
    start: int
    stop: int


@dataclass(slots=True, eq=False)
class Batch(Generic[T]):
    """What is scored in one call, and the tickets whose deadline passed before it."""

    slices: list[Slice[T]] = field(default_factory=list)
    n_rows: int = 0
    expired: list[T] = field(default_factory=list)


class Queue(Generic[T]):
    """The rows that wait for one model; ``max_rows`` is the most of a batch and may change any time."""

    __slots__ = ("_large", "_large_turn", "_small", "large_rows", "max_rows", "small_rows")

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.small_rows = 0
        self.large_rows = 0
        self._small: deque[T] = deque()
        self._large: deque[T] = deque()
        self._large_turn = False

    @property
    def n_rows(self) -> int:
        """Rows that wait, of requests not cancelled."""
        return self.small_rows + self.large_rows

    @property
    def n_tickets(self) -> int:
        """Requests that wait, those included that were cancelled and have not been passed by."""
        return len(self._small) + len(self._large)

    def push(self, ticket: T) -> None:
        """Let a request wait."""
        ticket.large = ticket.n_rows > self.max_rows
        if ticket.large:
            self._large.append(ticket)
            self.large_rows += ticket.n_rows
        else:
            self._small.append(ticket)
            self.small_rows += ticket.n_rows

    def cancel(self, ticket: T) -> None:
        """Forget the rows of a request that still wait, in constant time."""
        if not ticket.cancelled:
            ticket.cancelled = True
            self._count(ticket, ticket.taken_rows - ticket.n_rows)

    def take(self, now_s: float) -> Batch[T]:
        """The next batch: what waits, up to ``max_rows``; without slices where nothing waits."""
        batch: Batch[T] = Batch()
        first, second = (self._large, self._small) if self._large_turn else (self._small, self._large)
        self._fill(batch, first, now_s)
        self._fill(batch, second, now_s)
        self._large_turn = not self._large_turn and bool(self._large)
        return batch

    def _fill(self, batch: Batch[T], waiting: deque[T], now_s: float) -> None:
        while waiting and batch.n_rows < self.max_rows:
            ticket = waiting[0]
            if ticket.cancelled:
                waiting.popleft()
            elif ticket.deadline_s <= now_s:
                batch.expired.append(ticket)
                self.cancel(ticket)
            elif batch.slices and batch.slices[0].ticket.group is not ticket.group:
                return
            else:
                self._add(batch, ticket, now_s)
                if ticket.taken_rows == ticket.n_rows:
                    waiting.popleft()

    def _add(self, batch: Batch[T], ticket: T, now_s: float) -> None:
        start = ticket.taken_rows
        stop = min(ticket.n_rows, start + self.max_rows - batch.n_rows)
        if start == 0:
            ticket.started_s = now_s
        batch.slices.append(Slice(ticket, start, stop))
        batch.n_rows += stop - start
        ticket.taken_rows = stop
        self._count(ticket, start - stop)

    def _count(self, ticket: T, change: int) -> None:
        if ticket.large:
            self.large_rows += change
        else:
            self.small_rows += change
