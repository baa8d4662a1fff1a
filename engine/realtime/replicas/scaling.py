"""How many replicas a pool needs, from how busy each one is: values in, a number out.

A replica is one process that scores on one core, so the share of time it spends on a CPU is its
load, whatever the lane its requests came through.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

TARGET_BUSY = 0.7
"""Share of a core that a replica may be busy before another one is started."""


@dataclass(slots=True)
class BusyFraction:
    """The share of a core used between two looks.

    Attributes:
        wall_s: Monotonic time of the last look.
        cpu_s: CPU time of the process at the last look.
    """

    wall_s: float
    cpu_s: float

    def since_last(self, wall_s: float, cpu_s: float) -> float:
        """CPU seconds per second since the last look (0 where no time has passed)."""
        elapsed_s, used_s = wall_s - self.wall_s, cpu_s - self.cpu_s
        self.wall_s, self.cpu_s = wall_s, cpu_s
        return used_s / elapsed_s if elapsed_s > 0 else 0.0


def wanted_replicas(busy: Iterable[float], *, at_least: int, at_most: int) -> int:
    """The fewest replicas that would each be at most ``TARGET_BUSY`` under the same load."""
    return max(at_least, min(at_most, math.ceil(sum(busy) / TARGET_BUSY)))
