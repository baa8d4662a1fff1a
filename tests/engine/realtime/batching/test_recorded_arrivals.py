"""The policy on arrivals as an engine saw them: single rows and, every tenth time, two hundred.

``spike`` is an open loop that jumps from 300 to 1,500 requests a second and back, ``closed`` twelve
clients that ask again at once; both were noted where requests enter the batcher.
"""

import csv
import random
from pathlib import Path

import pytest

from engine.realtime.batching.admission import Admission
from tests.engine.realtime.simulation import Arrival, Cost, Exact, Outcome, simulate

TRACES = Path(__file__).parents[1] / "traces"
SLO_S = 0.05
MOST_ROWS = 128
"""Less than the long requests have, so that each is cut."""

every_trace = pytest.mark.parametrize("name", ["spike", "closed"])
at_each_pace = pytest.mark.parametrize("pace", [0.2, 1.0, 5.0])


def recorded(name: str, pace: float) -> list[Arrival]:
    with (TRACES / f"{name}.csv").open() as file:
        lines = list(csv.DictReader(file))
    return [Arrival(int(line["at_us"]) / 1e6 / pace, int(line["n_rows"]), SLO_S) for line in lines]


def cost_s(n_rows: int) -> float:
    return 0.0005 + 0.00003 * n_rows


def replay(arrivals: list[Arrival], cost: Cost = cost_s, *, exact: bool = True) -> Outcome:
    admission = Admission(SLO_S, MOST_ROWS, Exact(cost_s) if exact else None)
    for power in range(8):
        admission.observe(1 << power, cost_s(1 << power))
    admission.settle()
    return simulate(arrivals, admission, cost)


@every_trace
@at_each_pace
def test_every_request_is_answered_in_time_or_refused_and_the_model_never_idles(
    name: str, pace: float
) -> None:
    arrivals = recorded(name, pace)
    outcome = replay(arrivals)
    assert outcome.answered_s.keys() | outcome.refused == set(range(len(arrivals)))
    assert (outcome.late(arrivals), outcome.expired, outcome.idle_with_work) == ([], set(), 0)


@every_trace
def test_at_the_pace_it_was_recorded_at_no_single_row_is_refused(name: str) -> None:
    arrivals = recorded(name, 1.0)
    assert all(arrivals[index].n_rows > 1 for index in replay(arrivals).refused)


def test_at_five_times_the_pace_some_are_refused_and_the_model_is_kept_busy() -> None:
    arrivals = recorded("closed", 5.0)
    outcome = replay(arrivals)
    busy_s = sum(cost_s(n_rows) for n_rows in outcome.batches)
    assert outcome.refused
    assert busy_s > 0.9 * max(outcome.answered_s.values())


@every_trace
@at_each_pace
def test_learned_costs_that_scatter_leave_nearly_all_in_time(name: str, pace: float) -> None:
    draw = random.Random(0)
    arrivals = recorded(name, pace)
    outcome = replay(arrivals, lambda n_rows: cost_s(n_rows) * draw.uniform(0.8, 1.2), exact=False)
    assert outcome.in_time(arrivals) >= 0.99 * len(outcome.answered_s)
    assert len(outcome.answered_s) + len(outcome.refused) + len(outcome.expired) == len(arrivals)


@every_trace
def test_single_rows_do_not_wait_for_long_requests(name: str) -> None:
    arrivals = recorded(name, 1.0)
    outcome = replay(arrivals)
    waited_s = [at_s - arrivals[i].at_s for i, at_s in outcome.answered_s.items() if arrivals[i].n_rows == 1]
    # One batch under way and one's own, or a long request's turn between them.
    assert max(waited_s) <= 3 * cost_s(MOST_ROWS)


@every_trace
def test_who_goes_away_takes_no_answer_from_anybody(name: str) -> None:
    arrivals = recorded(name, 1.0)
    gone = set(range(0, len(arrivals), 7))
    for index in gone:
        arrivals[index].leaves_s = arrivals[index].at_s + 1e-4
    outcome = replay(arrivals)
    assert set(range(len(arrivals))) - gone <= outcome.answered_s.keys()
