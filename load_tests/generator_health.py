"""Is the generator itself the limit? Watches its processor share and how late it is woken."""

from dataclasses import dataclass, field

BUSY = 0.9
"""A single-threaded generator that uses more of a core than this cannot send on time."""
LATE_S = 0.02
MIN_OBSERVATIONS = 5


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the generator.

    Attributes:
        cpu: Cores its process used since the last look.
        late_s: How much later than asked it was woken.
    """

    cpu: float
    late_s: float


@dataclass(slots=True)
class GeneratorHealth:
    """What was observed over a run."""

    observations: list[Observation] = field(default_factory=list)

    def add(self, observation: Observation) -> None:
        """Remember an observation."""
        self.observations.append(observation)

    def worst(self) -> Observation:
        """The observation to report to a master: typical processor share, typical lateness."""
        return Observation(self._median("cpu"), self._median("late_s"))

    def verdict(self) -> str | None:
        """A sentence where the generator limited the run, else ``None``."""
        if len(self.observations) < MIN_OBSERVATIONS:
            return None
        cpu, late_s = self._median("cpu"), self._median("late_s")
        if cpu > BUSY:
            return (
                f"the generator was the limit: it kept {100 * cpu:.0f} % of a core busy; "
                "use --generator fast, or more --processes on a machine with free cores"
            )
        if late_s > LATE_S:
            return (
                f"the generator was the limit: it was woken {1000 * late_s:.0f} ms late; "
                "use --generator fast, or a machine of its own"
            )
        return None

    def _median(self, name: str) -> float:
        values = sorted(getattr(observation, name) for observation in self.observations)
        return float(values[len(values) // 2]) if values else 0.0
