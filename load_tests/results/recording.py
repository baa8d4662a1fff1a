"""What a load test saw, second by second: outcomes and latencies, mergeable over processes.

A request is *ok* (answered 2xx), *shed* (refused by the engine's policy or past its deadline:
429, 503 or 504) or *failed*.
Latencies are those of ok requests, counted in the second in which they were due.
"""

from dataclasses import dataclass, field
from typing import Literal

from load_tests.results.histogram import LatencyHistogram

Outcome = Literal["ok", "shed", "failed"]
MAX_REASONS = 50
SHED_STATUSES = frozenset({429, 503, 504})


def outcome_of(status: int) -> Outcome:
    """How an HTTP status counts."""
    if 200 <= status < 300:
        return "ok"
    return "shed" if status in SHED_STATUSES else "failed"


@dataclass(slots=True)
class Second:
    """One second of a run."""

    latencies: LatencyHistogram = field(default_factory=LatencyHistogram)
    shed: int = 0
    failed: int = 0

    @property
    def ok(self) -> int:
        """Requests answered."""
        return self.latencies.n


@dataclass(slots=True)
class Recording:
    """Everything one process saw.

    Attributes:
        seconds: Second since the start → what happened to the requests due in it.
        errors: Reason → count, for failed requests; at most ``MAX_REASONS`` are told apart.
        refusals: How long the engine took to refuse, for shed requests.
        delays: How late the generator itself sent requests after they were due (open loop).
    """

    seconds: dict[int, Second] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    refusals: LatencyHistogram = field(default_factory=LatencyHistogram)
    delays: LatencyHistogram = field(default_factory=LatencyHistogram)

    def add(self, at_s: float, latency_s: float, status: int, reason: str = "") -> None:
        """Count one request that was due ``at_s`` seconds after the start.

        Args:
            at_s: When it was due.
            latency_s: From when it was due to its answer.
            status: HTTP status; 0 where no answer came.
            reason: Why it failed, for the table of errors.
        """
        second = self.seconds.get(int(at_s))
        if second is None:
            second = self.seconds[int(at_s)] = Second()
        outcome = outcome_of(status)
        if outcome == "ok":
            second.latencies.add(latency_s)
        elif outcome == "shed":
            second.shed += 1
            self.refusals.add(latency_s)
        else:
            second.failed += 1
            self._add_error(reason or f"HTTP status {status}")

    def _add_error(self, reason: str) -> None:
        kept = reason if reason in self.errors or len(self.errors) < MAX_REASONS else "other reasons"
        self.errors[kept] = self.errors.get(kept, 0) + 1

    def merge(self, other: "Recording") -> None:
        """Add what another process saw, second by second."""
        for at, theirs in other.seconds.items():
            ours = self.seconds.setdefault(at, Second())
            ours.latencies.merge(theirs.latencies)
            ours.shed += theirs.shed
            ours.failed += theirs.failed
        for reason, count in other.errors.items():
            self.errors[reason] = self.errors.get(reason, 0) + count
        self.refusals.merge(other.refusals)
        self.delays.merge(other.delays)

    def latencies(self) -> LatencyHistogram:
        """Latencies of all seconds together."""
        together = LatencyHistogram()
        for second in self.seconds.values():
            together.merge(second.latencies)
        return together
