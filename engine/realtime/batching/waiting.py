"""Who waits for scores, with which rows, and what they are handed."""

import logging
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import DeadlineExceeded, ScoringFailed
from engine.realtime.batching.bisection import Block
from engine.realtime.batching.queueing import Batch, Ticket

log = logging.getLogger(__name__)


class Result(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A request's scores ``[n, K]``, its bad rows with reasons, and where the time went."""

    scores: NDArray[np.floating[Any]]
    bad: dict[int, str]
    queue_s: float
    score_s: float


class Waiter(Protocol):
    """Who waits for a result: a future, or something lighter. Called on the event loop."""

    def done(self) -> bool:
        """Whether it has a result, or gave up waiting."""

    def set_result(self, result: Result, /) -> None:
        """Hand over the scores."""

    def set_exception(self, error: Exception, /) -> None:
        """Say why there are none."""


class Nobody:
    """Stands where nobody waits any more."""

    def done(self) -> bool:
        """Whether it is told nothing."""
        return True

    def set_result(self, result: Result, /) -> None:
        """Hear nothing."""

    def set_exception(self, error: Exception, /) -> None:
        """Hear nothing."""


NOBODY = Nobody()
NO_ROWS: Block = np.empty((0, 0))


class Waiting(Ticket, eq=False, kw_only=True):
    """A ticket with its rows and whoever waits for them."""

    X: Block
    waiter: Waiter
    queued_s: float
    scores: Block | None = None
    failed: dict[int, str] = {}
    score_s: float = 0.0


def tell(ticket: Waiting, outcome: Result | DeadlineExceeded | ScoringFailed) -> None:
    """Tell the waiter; whatever it does then must not reach its neighbours."""
    waiter = ticket.waiter
    if waiter.done():
        return
    try:
        if isinstance(outcome, Result):
            waiter.set_result(outcome)
        else:
            waiter.set_exception(outcome)
    except Exception:
        log.exception("a result could not be delivered")


def joined(batch: Batch[Waiting]) -> Block:
    """The rows of a batch, one below the other."""
    parts: list[Block] = [
        part.ticket.X
        if part.stop - part.start == part.ticket.n_rows
        else part.ticket.X[part.start : part.stop]
        for part in batch.slices
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def give_part(ticket: Waiting, start: int, stop: int, scores: Block) -> None:
    """Keep the scores of some rows of a request; ``[n, 0]`` where the model raised on all of them."""
    n_outputs = scores.shape[1]
    if ticket.scores is None or not ticket.scores.shape[1]:
        ticket.scores = np.full((ticket.n_rows, n_outputs), np.nan, scores.dtype)
    if n_outputs:
        ticket.scores[start:stop] = scores
