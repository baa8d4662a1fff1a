"""The largest Poisson rate at which an engine keeps its promise, found by searching.

In the manner of MLPerf Inference's Server scenario (Reddi et al., 2020): arrivals are Poisson, a
rate holds when enough requests are within the limit with confidence, runs are repeated, and a run
ends early once too many requests were late for it to hold. The search itself knows no engine; it
is given a function that runs one rate.
"""

import math
import statistics
from collections.abc import Callable

import msgspec

from load_tests.slo import Promise

CONFIDENCE_Z = 1.645
"""Standard normal quantile of one-sided 95 % confidence."""
PRECISION = 0.03
"""The search ends when the interval is this share of its upper end."""
N_REPEATS = 5
STEP_DOWN = 0.97
"""Where the repeats fail, the rate is lowered by this, then by its square, and so on."""
MAX_STEPS_DOWN = 10
STEP_UP = 1.05
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
        spread: Standard deviation of goodput over the repeats, as a share of its mean.
        trials: All runs, in order.
        curve: Runs at shares of the capacity, for the latency–throughput curve.
        replicas: Processes that answered.
        predicted_rate: What a simulation from the engine's measured costs expected; ``None`` without.
        predicted_curve: The simulation's runs at the rates of ``curve``.
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
    trials: list[Trial] = []

    def holds(rate: float, n_runs: int) -> int:
        """How many of some runs kept the promise."""
        found = [run(rate, False) for _ in range(n_runs)]
        trials.extend(found)
        return sum(keeps(promise, trial) for trial in found)

    rate = _bisect(lambda rate: _majority(lambda: holds(rate, 1)), first_guess)
    held = holds(rate, N_REPEATS) if rate else 0
    for step in range(1, MAX_STEPS_DOWN + 1):
        if not rate or held > N_REPEATS // 2:
            break
        rate *= STEP_DOWN**step
        held = holds(rate, N_REPEATS)
    if held <= N_REPEATS // 2:
        rate = 0.0
    confirming = trials[-N_REPEATS:] if rate else []
    # A disturbance may have ended the halving too low; go up while the repeats still hold.
    while rate and (again := holds(rate * STEP_UP, N_REPEATS)) > N_REPEATS // 2:
        rate, held, confirming = rate * STEP_UP, again, trials[-N_REPEATS:]
    spread = _spread(confirming)
    curve = tuple(run(rate * share, True) for share in CURVE) if rate else ()
    return Capacity(promise, rate, held, N_REPEATS, spread, tuple(trials), curve)


def replicas_for(target_rate: float, capacity: Capacity) -> int:
    """Replicas to serve a rate with headroom, if capacity grows with their number; 0 where unknown."""
    per_replica = HEADROOM * capacity.rate / capacity.replicas
    return math.ceil(target_rate / per_replica) if per_replica else 0


def _bisect(holds: Callable[[float], bool], guess: float) -> float:
    """The largest rate that held; each is tried once."""
    low, high = 0.0, guess
    while low == 0.0 and high > guess / MAX_FALL:
        if holds(high):
            low, high = high, 2 * high
            while holds(high):
                low, high = high, 2 * high
        else:
            low, high = (high / 2, high) if holds(high / 2) else (0.0, high / 2)
    while low and high - low > PRECISION * high:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _majority(once: Callable[[], int]) -> bool:
    """Whether two of at most three runs succeed: one may be spoiled by the machine."""
    first, second = once(), once()
    return bool(first and second) or (first != second and bool(once()))


def _spread(trials: list[Trial]) -> float:
    goodputs = [trial.goodput for trial in trials]
    mean = statistics.fmean(goodputs) if goodputs else 0.0
    return statistics.stdev(goodputs) / mean if len(goodputs) > 1 and mean else 0.0
