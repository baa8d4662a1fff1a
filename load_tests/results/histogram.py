"""Counts latencies in buckets one percent apart, so that any percentile is known within one percent.

Histograms of seconds, users, processes and runs merge by addition. The idea is HdrHistogram's
(https://hdrhistogram.github.io/HdrHistogram/), with equal steps of the logarithm.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

LOWEST_S = 1e-6
"""Latencies below one microsecond are counted as one."""
STEP = 1.01
_PER_BUCKET = 1.0 / math.log(STEP)


@dataclass(slots=True)
class LatencyHistogram:
    """How many latencies fell into each bucket.

    Attributes:
        counts: Bucket index → count; bucket ``i`` reaches from ``1.01**i`` to ``1.01**(i + 1)`` µs.
        n: How many latencies were counted.
        total_s: Their sum in seconds.
        highest_s: The largest, exactly.
    """

    counts: dict[int, int] = field(default_factory=dict)
    n: int = 0
    total_s: float = 0.0
    highest_s: float = 0.0

    def add(self, latency_s: float) -> None:
        """Count one latency in seconds."""
        bucket = bucket_of(latency_s)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.n += 1
        self.total_s += latency_s
        if latency_s > self.highest_s:
            self.highest_s = latency_s

    def merge(self, other: "LatencyHistogram") -> None:
        """Add another histogram's counts to this one."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.n += other.n
        self.total_s += other.total_s
        self.highest_s = max(self.highest_s, other.highest_s)

    @property
    def mean_s(self) -> float:
        """The mean latency in seconds; NaN where nothing was counted."""
        return self.total_s / self.n if self.n else math.nan

    def percentile(self, percent: float) -> float:
        """The latency in seconds that ``percent`` of the requests did not exceed; NaN when empty."""
        if not self.n:
            return math.nan
        needed = max(1, math.ceil(self.n * percent / 100 - 1e-9))
        if needed >= self.n:
            return self.highest_s
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= needed:
                return min(middle_of(bucket), self.highest_s)
        return self.highest_s

    def percentiles(self, percents: Iterable[float]) -> list[float]:
        """Several percentiles in seconds."""
        return [self.percentile(percent) for percent in percents]

    def fraction_within(self, limit_s: float) -> float:
        """The share of latencies at or below a limit; NaN when empty."""
        last = bucket_of(limit_s)
        within = sum(count for bucket, count in self.counts.items() if bucket <= last)
        return within / self.n if self.n else math.nan

    def cdf(self) -> list[tuple[float, float]]:
        """Points (latency in seconds, share of requests at or below it), in order."""
        points, seen = [], 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            points.append((min(edge_of(bucket + 1), self.highest_s), seen / self.n))
        return points


def bucket_of(latency_s: float) -> int:
    """The index of the bucket that counts a latency."""
    return int(math.log(latency_s / LOWEST_S) * _PER_BUCKET) if latency_s > LOWEST_S else 0


def edge_of(bucket: int) -> float:
    """The lower edge of a bucket in seconds."""
    return float(LOWEST_S * STEP**bucket)


def middle_of(bucket: int) -> float:
    """The latency in seconds that stands for a bucket."""
    return edge_of(bucket) * math.sqrt(STEP)
