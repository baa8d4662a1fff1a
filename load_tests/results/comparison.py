"""A run beside an earlier one: which numbers changed, and by how much."""

from dataclasses import dataclass

from load_tests.capacity.search import Capacity
from load_tests.results.result import LoadResult

NOISE = 0.1
"""Runs on one machine repeat within ten percent; less is no change."""


@dataclass(frozen=True, slots=True)
class Change:
    """One number then and now.

    Attributes:
        name: What it is.
        before: Then.
        after: Now.
        more_is_better: Whether a larger one is an improvement.
    """

    name: str
    before: float
    after: float
    more_is_better: bool

    @property
    def ratio(self) -> float:
        """Now over then."""
        return self.after / self.before if self.before else float("inf")

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``same``, with differences within the noise the same."""
        if abs(self.ratio - 1) <= NOISE:
            return "same"
        return "better" if (self.ratio > 1) == self.more_is_better else "worse"


def compare_loads(before: LoadResult, after: LoadResult) -> list[Change]:
    """Throughput and latency of two load tests."""
    pairs = [
        ("requests/s", before.qps, after.qps, True),
        ("p50", before.latency.p50_s, after.latency.p50_s, False),
        ("p99", before.latency.p99_s, after.latency.p99_s, False),
    ]
    return [
        Change(name, then, now, better)
        for name, then, now, better in pairs
        if then is not None and now is not None
    ]


def compare_capacities(before: Capacity, after: Capacity) -> list[Change]:
    """The capacities of two searches."""
    return [Change(f"capacity under {after.promise}", before.rate, after.rate, True)]
