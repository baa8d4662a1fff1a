"""When a soak reloads the model, kills a replica and submits a batch job."""

from dataclasses import dataclass
from typing import Literal

What = Literal["reload", "kill", "job"]
EVERY_S: dict[What, float] = {"reload": 60.0, "kill": 120.0, "job": 150.0}
OFFSET: dict[What, float] = {"reload": 0.4, "kill": 0.75, "job": 0.1}
"""Where in its interval an event falls, so that a kill comes soon after a reload and into a job."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something to do ``at_s`` seconds after the start."""

    at_s: float
    what: What


def plan_events(duration_s: float, *, on_ray: bool) -> list[Event]:
    """What to do in a run, in order; each thing at least once.

    An engine without Ray is one process, which neither reloads nor survives a kill: it gets jobs only.
    """
    wanted: tuple[What, ...] = ("reload", "kill", "job") if on_ray else ("job",)
    events = []
    for what in wanted:
        n = max(1, int(duration_s / EVERY_S[what]))
        events += [Event((turn + OFFSET[what]) * duration_s / n, what) for turn in range(n)]
    return sorted(events, key=lambda event: event.at_s)
