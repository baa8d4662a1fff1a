"""Ratios out of the benchmarks' JSON, and what fell since the baseline by more than its noise.

A ratio says how many times better the engine is than somebody measured beside it: more is better.
Ratios are all that is kept; absolute times belong to one machine.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from engine.errors import InvalidConfig, NotFound

LEAST_NOISE = 0.10
"""Neighbouring runs of a quick benchmark differ by this much even where their pairs agree."""
MOST_NOISE = 0.50
Pairs = dict[str, list[float]]
"""Name of a ratio → what each pair of neighbouring measurements gave."""


class Ratio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ratio as kept in the baseline.

    Attributes:
        ratio: The median over its pairs.
        noise: A fall by a larger part than this is one; from the spread of the pairs.
        pairs: How many there were.
    """

    ratio: float
    noise: float
    pairs: int


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ratios to hold, and where they were measured."""

    machine: dict[str, str]
    ratios: dict[str, Ratio]


@dataclass(frozen=True, slots=True)
class Finding:
    """A ratio beside its baseline; ``before`` or ``now`` is ``None`` where it was not measured."""

    name: str
    before: Ratio | None
    now: float | None

    @property
    def verdict(self) -> Literal["fell", "rose", "same", "new", "missing"]:
        """What became of it; changes within the noise are none."""
        if self.before is None:
            return "new"
        if self.now is None:
            return "missing"
        change = self.now / self.before.ratio
        if change < 1 - self.before.noise:
            return "fell"
        return "rose" if change > 1 + self.before.noise else "same"


def compare(baseline: Mapping[str, Ratio], pairs: Pairs) -> list[Finding]:
    """Every ratio of the baseline or of the run, those of the baseline first."""
    names = [*baseline, *(name for name in pairs if name not in baseline)]
    return [
        Finding(name, baseline.get(name), statistics.median(pairs[name]) if pairs.get(name) else None)
        for name in names
    ]


def ratio_of(pairs: Sequence[float]) -> Ratio:
    """The median of the pairs; its noise is Tukey's fence, 1.5 interquartile ranges, within bounds."""
    lower, middle, upper = np.percentile(pairs, (25, 50, 75)).tolist()
    noise = min(MOST_NOISE, max(LEAST_NOISE, 1.5 * (upper - lower) / middle))
    return Ratio(float(f"{middle:.4g}"), round(noise, 2), len(pairs))


def add(pairs: Pairs, more: Pairs) -> Pairs:
    """The pairs of two runs together."""
    return {name: [*pairs.get(name, []), *more.get(name, [])] for name in [*pairs, *more]}


def kernel_ratios(content: bytes) -> Pairs:
    """From ``load_tests.kernels --json``: per model, rows and library, its time over ours round by round."""
    lines: list[dict[str, Any]] = [msgspec.json.decode(line) for line in content.splitlines()]
    measured = [line for line in lines if "library" in line]
    pairs: Pairs = {}
    for line in measured:
        ours = next(other for other in measured if _same_case(line, other))
        if line["library"].startswith("tandem") or not ours["library"].startswith("tandem"):
            continue
        name = f"kernels: {line['library']} / {ours['library']}, {line['model']}, {line['n_rows']} rows"
        pairs[name] = [theirs / own for theirs, own in zip(line["rounds"], ours["rounds"], strict=False)]
    return pairs


def _same_case(line: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(line["model"] == other["model"] and line["n_rows"] == other["n_rows"])


def batch_ratios(content: bytes) -> Pairs:
    """From ``load_tests.batch --json``: our rows a second over those of each other way."""
    ways: dict[str, dict[str, float]] = msgspec.json.decode(content)["ways"]
    return {
        f"batch: {ours} / {other}, rows/s": [ways[ours]["rows_per_s"] / ways[other]["rows_per_s"]]
        for ours in ways
        for other in ways
        if ours.startswith("ours") and not other.startswith("ours")
    }


def peer_ratios(content: bytes) -> Pairs:
    """From ``load_tests.peers --json``: throughput and median latency against each server."""
    servers: dict[str, list[dict[str, float]]] = msgspec.json.decode(content)
    pairs: Pairs = {}
    for ours, other in ((a, b) for a in servers for b in servers):
        if not ours.startswith("tandem") or other.startswith("tandem"):
            continue
        if ours.endswith("-grpc") != other.endswith("-grpc"):
            continue
        for mine, theirs in zip(servers[ours], servers[other], strict=True):
            clients = f"{mine['connections']:.0f} clients"
            pairs[f"endpoint: {ours} / {other}, requests/s of {clients}"] = [mine["qps"] / theirs["qps"]]
            pairs[f"endpoint: {other} / {ours}, p50 of {clients}"] = [theirs["p50_s"] / mine["p50_s"]]
    return pairs


READERS: dict[str, Callable[[bytes], Pairs]] = {
    "kernels": kernel_ratios,
    "batch": batch_ratios,
    "peers": peer_ratios,
}
"""By the module under ``load_tests`` that measures."""


def read_baseline(path: Path) -> Baseline:
    """The baseline in a file; raises ``NotFound`` or ``InvalidConfig``."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Baseline)
    except OSError as error:
        raise NotFound(f"expected a baseline at {path}, found none; --update writes one") from error
    except msgspec.MsgspecError as error:
        raise InvalidConfig(f"expected a baseline in {path}: {error}; --update writes one") from error
