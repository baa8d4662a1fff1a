"""The largest Poisson rate at which an engine keeps its promise, found by searching.

In the manner of MLPerf Inference's Server scenario (Reddi et al., 2020): arrivals are Poisson, a
rate holds when enough requests are within the limit with confidence, runs are repeated, and a run
ends early once too many requests were late for it to hold. The search is the up-and-down staircase
of psychophysics (Levitt, 1971), which one disturbed run cannot lead astray. It knows no engine; it
is given a function that runs one rate.
"""

import math
import statistics
from collections.abc import Callable

import msgspec

from load_tests.results.result import Load
from load_tests.results.slo import Promise

CONFIDENCE_Z = 1.645
"""Standard normal quantile of one-sided 95 % confidence."""
FIRST_STEP = 1.5
SMALLEST_STEP = 1.04
"""Factors by which the staircase moves."""
N_IN_A_ROW = 2
"""So many runs must hold before the rate is raised: where every other run holds, most repeats may fail."""
N_STAIRS = 32
"""Runs since the step was smallest, whose median is the estimate."""
N_ALIKE = 4
"""So many moves in the same direction tell that the capacity is far from there."""
MOST_MOVES = 24
"""After so many the runs count however large the step is: on some machines it never rests."""
MARGIN = 0.98
"""Half a step: where runs hold just so, the rate confirmed lies on the side that holds."""
N_REPEATS = 5
STEP_DOWN = 0.97
"""Where most repeats fail, the rate is lowered by this, then by its square, and so on."""
MAX_STEPS_DOWN = 10
MAX_FALL = 32
"""The search gives up below the first guess divided by this."""
CURVE = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1)
"""Shares of the capacity at which the latency–throughput curve is measured."""
HEADROOM = 0.8
"""Share of the capacity to plan with: bursts, failures and noisy neighbours need the rest."""


class Trial(msgspec.Struct, frozen=True):
    """One run at one rate.

    Attributes:
        rate: Requests a second that arrived.
        n_sent: Requests until the run ended, early or not.
        n_late: Of them, those answered late, shed, failed, or not answered.
        goodput: Requests a second answered in time.
        p50_s: Median latency of those answered.
        p99_s: Their 99th percentile.
        limited: Why the generator was the limit, if it was.
    """

    rate: float
    n_sent: int
    n_late: int
    goodput: float
    p50_s: float | None
    p99_s: float | None
    limited: str | None = None


class Capacity(msgspec.Struct, frozen=True):
    """What a search found.

    Attributes:
        promise: What had to be kept.
        rate: The largest rate found to keep it; 0 where none does.
        held: How many of the repeated runs at that rate kept it.
        repeats: How many there were.
        spread: Standard deviation of goodput over the repeats that kept it, as a share of its mean.
        trials: All runs, in order.
        curve: Runs at shares of the capacity, for the latency–throughput curve.
        replicas: Processes that answered.
        predicted_rate: What a simulation from the engine's measured costs expected; ``None`` without.
        predicted_curve: The simulation's runs at the rates of ``curve``.
        load: What was sent, but for its rate; ``None`` where nobody noted it.
    """

    promise: Promise
    rate: float
    held: int
    repeats: int
    spread: float
    trials: tuple[Trial, ...]
    curve: tuple[Trial, ...]
    replicas: int = 1
    predicted_rate: float | None = None
    predicted_curve: tuple[Trial, ...] = ()
    load: Load | None = None


RunRate = Callable[[float, bool], Trial]
"""Runs one rate; the flag says whether to the end, even if the promise is broken long before."""


def keeps(promise: Promise, trial: Trial) -> bool:
    """Whether a run shows with 95 % confidence that the promise holds at its rate (Wilson's bound)."""
    return late_bound(trial.n_late, trial.n_sent) <= 1 - promise.percent / 100


def late_bound(n_late: int, n_sent: int) -> float:
    """Upper bound of the true share of late requests, by Wilson's score interval."""
    if not n_sent:
        return 1.0
    share, z2 = n_late / n_sent, CONFIDENCE_Z**2
    middle = share + z2 / (2 * n_sent)
    half = CONFIDENCE_Z * math.sqrt(share * (1 - share) / n_sent + z2 / (4 * n_sent**2))
    return (middle + half) / (1 + z2 / n_sent)


def tolerated_late(promise: Promise, n_sent: int) -> int:
    """How many requests of a run may be late at most; more cannot be made good."""
    allowed = 1 - promise.percent / 100
    n_late = int(n_sent * allowed)
    while n_late and late_bound(n_late, n_sent) > allowed:
        n_late -= 1
    return n_late


def find_max(promise: Promise, run: RunRate, *, first_guess: float) -> Capacity:
    """Search for the capacity.

    Args:
        promise: What must be kept.
        run: Sends one Poisson rate and tells what became of it.
        first_guess: A rate in the right order of magnitude, such as a closed loop's throughput.
    """
    search = _Search(promise, run)
    rate = search.confirmed(first_guess)
    kept = [trial for trial in search.confirming if keeps(promise, trial)] if rate else []
    curve = tuple(run(rate * share, True) for share in CURVE) if rate else ()
    return Capacity(promise, rate, len(kept), N_REPEATS, _spread(kept), tuple(search.trials), curve)


def replicas_for(target_rate: float, capacity: Capacity) -> int:
    """Replicas to serve a rate with headroom, if capacity grows with their number; 0 where unknown."""
    per_replica = HEADROOM * capacity.rate / capacity.replicas
    return math.ceil(target_rate / per_replica) if per_replica else 0


class _Search:
    """The state of a search: every run so far, and the repeats that confirmed the present rate."""

    def __init__(self, promise: Promise, run: RunRate) -> None:
        self._promise = promise
        self._run = run
        self.trials: list[Trial] = []
        self.confirming: list[Trial] = []

    def staircase(self, guess: float) -> float:
        """The rate that holds seven times out of ten; 0 where none did.

        Two runs in a row that hold raise the rate by a step, one that does not lowers it, which settles
        where two in a row hold every other time. The step shrinks at every turn; the estimate is the median
        of the rates tried since it was smallest, in whatever minutes. One spoiled run moves it by a step's
        share, not by half of what is left to search. A spoiled minute leaves a long way to go: several moves
        alike make the step grow again (Taylor and Creelman's PEST, 1967).
        """
        rate, step, n_held = guess, FIRST_STEP, 0
        moves: list[bool] = []
        stairs: list[float] = []
        while len(stairs) < N_STAIRS and rate > guess / MAX_FALL:
            if stairs or step == SMALLEST_STEP or len(moves) >= MOST_MOVES:
                stairs.append(rate)
            holds = self._holds(rate)
            n_held = n_held + 1 if holds else 0
            if holds and n_held < N_IN_A_ROW:
                continue
            n_held = 0
            moves.append(holds)
            if moves[-2:] in ([True, False], [False, True]):
                step = max(SMALLEST_STEP, math.sqrt(step))
            elif moves[-N_ALIKE:] == [holds] * N_ALIKE:
                step = min(FIRST_STEP, step**2)
            rate *= step if holds else 1 / step
        return statistics.median(stairs) if rate > guess / MAX_FALL else 0.0

    def confirmed(self, guess: float) -> float:
        """A rate most of whose repeats hold, at the staircase's end or some steps below it; 0 without one."""
        rate = MARGIN * self.staircase(guess)
        for step in range(1, MAX_STEPS_DOWN + 1):
            if not rate or self._repeats_hold(rate):
                return rate
            rate *= STEP_DOWN**step
        return 0.0

    def _repeats_hold(self, rate: float) -> bool:
        repeats = [self._run(rate, False) for _ in range(N_REPEATS)]
        self.trials += repeats
        holds = sum(keeps(self._promise, trial) for trial in repeats) > N_REPEATS // 2
        if holds:
            self.confirming = repeats
        return holds

    def _holds(self, rate: float) -> bool:
        self.trials.append(self._run(rate, False))
        return keeps(self._promise, self.trials[-1])


def _spread(trials: list[Trial]) -> float:
    goodputs = [trial.goodput for trial in trials]
    mean = statistics.fmean(goodputs) if goodputs else 0.0
    return statistics.stdev(goodputs) / mean if len(goodputs) > 1 and mean else 0.0
