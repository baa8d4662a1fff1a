"""What became of every request: answered, refused, lost at a kill, or lost without an excuse."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from load_tests.results.recording import MAX_REASONS, SHED_STATUSES, outcome_of

KILL_S = 1.0
"""For so long after the signal a killed process's sockets may still take requests."""


@dataclass(slots=True)
class Log:
    """Requests in the order in which they ended; times in seconds since the run began.

    Attributes:
        n_sent: Requests sent, ended or not.
        sent_s: When each was sent.
        ended_s: When its answer was there, or it was given up.
        status: Its HTTP status; 0 where no answer came.
        kind: Index of its kind: wire format and rows.
        losses: (sent, ended, reason) of the first failed ones.
    """

    n_sent: int = 0
    sent_s: "array[float]" = field(default_factory=lambda: array("d"))
    ended_s: "array[float]" = field(default_factory=lambda: array("d"))
    status: "array[int]" = field(default_factory=lambda: array("i"))
    kind: "array[int]" = field(default_factory=lambda: array("b"))
    losses: list[tuple[float, float, str]] = field(default_factory=list)

    def add(self, sent_s: float, ended_s: float, status: int, kind: int, reason: str = "") -> None:
        """Note a request that ended."""
        self.sent_s.append(sent_s)
        self.ended_s.append(ended_s)
        self.status.append(status)
        self.kind.append(kind)
        if outcome_of(status) == "failed" and len(self.losses) < MAX_REASONS:
            self.losses.append((sent_s, ended_s, reason))


class Account(msgspec.Struct, frozen=True):
    """Requests by what became of them.

    Attributes:
        sent: All of them.
        answered: With scores.
        refused: By the engine's policy (429, 503, 504).
        killed: Failed, and under way when a replica was killed.
        lost: Failed at another time.
        missing: Without any end.
    """

    sent: int
    answered: int
    refused: int
    killed: int
    lost: int
    missing: int


class Second(msgspec.Struct, frozen=True):
    """The requests that ended in one second; latencies in seconds, ``None`` where none was answered."""

    second: int
    answered: int
    refused: int
    failed: int
    p50_s: float | None
    p99_s: float | None


def account_of(log: Log, kills_s: Sequence[float]) -> Account:
    """Add up a log; ``kills_s`` are the moments at which a replica was killed."""
    status = np.asarray(log.status)
    answered, refused = _answered(status), _refused(status)
    sent, ended = np.asarray(log.sent_s), np.asarray(log.ended_s)
    excused = np.zeros(len(status), bool)
    for kill_s in kills_s:
        excused |= (sent <= kill_s + KILL_S) & (ended >= kill_s)
    failed = ~answered & ~refused
    return Account(
        sent=log.n_sent,
        answered=int(answered.sum()),
        refused=int(refused.sum()),
        killed=int((failed & excused).sum()),
        lost=int((failed & ~excused).sum()),
        missing=log.n_sent - len(status),
    )


def by_second(log: Log) -> tuple[Second, ...]:
    """The log second by second, from the first to the last in which a request ended."""
    status, at = np.asarray(log.status), np.asarray(log.ended_s).astype(int)
    latency = np.asarray(log.ended_s) - np.asarray(log.sent_s)
    answered, refused = _answered(status), _refused(status)
    seconds = []
    for second in range(int(at.max(initial=-1)) + 1):
        here = at == second
        n_answered, n_refused = int((here & answered).sum()), int((here & refused).sum())
        p50_s, p99_s = (
            np.percentile(latency[here & answered], (50, 99)).tolist() if n_answered else (None, None)
        )
        n_failed = int(here.sum()) - n_answered - n_refused
        seconds.append(Second(second, n_answered, n_refused, n_failed, p50_s, p99_s))
    return tuple(seconds)


def _answered(
    status: "np.ndarray[tuple[int], np.dtype[np.int32]]",
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return (status >= 200) & (status < 300)


def _refused(
    status: "np.ndarray[tuple[int], np.dtype[np.int32]]",
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.isin(status, list(SHED_STATUSES))
