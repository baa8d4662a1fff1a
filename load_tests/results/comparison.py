"""A run beside an earlier one: which numbers changed, and by how much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.errors import InvalidConfig
from load_tests.capacity.search import Capacity
from load_tests.results.result import Load, LoadResult
from load_tests.results.slo import Promise

NOISE = 0.1
"""Runs on one machine repeat within ten percent; less is no change."""
OF_A_SEARCH = {"wire": "--wire", "rows_per_request": "--rows-per-request", "deadline_s": "--deadline"}
OF_A_RUN = {
    **OF_A_SEARCH,
    "generator": "--generator",
    "users": "--users",
    "rate": "--rate",
    "shape": "--shape",
}
"""What makes a load another one, and the options that say it. Engines and models are there to be compared."""


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


def check_load(before: Load, now: Load) -> None:
    """Raise ``InvalidConfig`` where a run would be of another load than its baseline."""
    _refuse(_differences(before, now, OF_A_RUN))


def check_search(before: Capacity, now: Load, promise: Promise) -> None:
    """Raise ``InvalidConfig`` where a search would have another promise or load than its baseline."""
    promises = [] if before.promise == promise else [f"--slo was {before.promise} and is {promise}"]
    _refuse(promises + (_differences(before.load, now, OF_A_SEARCH) if before.load else []))


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


def _differences(before: Load, now: Load, options: Mapping[str, str]) -> list[str]:
    pairs = [(option, getattr(before, name), getattr(now, name)) for name, option in options.items()]
    return [f"{option} was {_said(then)} and is {_said(new)}" for option, then, new in pairs if then != new]


def _said(value: object) -> str:
    return "not given" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _refuse(differences: Sequence[str]) -> None:
    if differences:
        raise InvalidConfig(
            f"expected a baseline of the same load, but {', '.join(differences)};"
            " give the same options, or no --baseline"
        )
