"""A discrete-event simulation of one model: the policy objects of the engine, a simulated clock."""

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from engine.realtime.batching.admission import Admission
from engine.realtime.batching.queueing import Queue, Ticket

Cost = Callable[[int], float]


@dataclass
class Arrival:
    """A request: when, how many rows, how long it may take, and when its client goes away if it does."""

    at_s: float
    n_rows: int = 1
    budget_s: float = 0.05
    leaves_s: float | None = None


@dataclass
class Outcome:
    """What became of each arrival, by its index; idle gaps are spans in which work waited unscored."""

    answered_s: dict[int, float] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    expired: set[int] = field(default_factory=set)
    batches: list[int] = field(default_factory=list)
    idle_with_work: int = 0

    def late(self, arrivals: list[Arrival]) -> list[int]:
        ends_s = [arrival.at_s + arrival.budget_s + 1e-9 for arrival in arrivals]
        return [index for index, at_s in self.answered_s.items() if at_s > ends_s[index]]

    def in_time(self, arrivals: list[Arrival]) -> int:
        return len(self.answered_s) - len(self.late(arrivals))


@dataclass
class Exact:
    """Costs that are known."""

    cost: Cost
    spread_s: float = 0.0

    def observe(self, n_rows: int, cost_s: float) -> None:
        pass

    def typical_s(self, n_rows: int) -> float:
        return self.cost(n_rows)


def simulate(arrivals: Iterable[Arrival], admission: Admission, cost: Cost) -> Outcome:
    """Run a trace through queue and admission; ``cost(rows)`` is what a batch really takes."""
    return _Simulation(list(arrivals), admission, cost).run()


class _Simulation:
    def __init__(self, arrivals: list[Arrival], admission: Admission, cost: Cost) -> None:
        self.arrivals, self.admission, self.cost = arrivals, admission, cost
        self.outcome = Outcome()
        self.queue: Queue[Ticket] = Queue(admission.max_rows)
        self.tickets: dict[int, Ticket] = {}
        self.index: dict[int, int] = {}
        self.events: list[tuple[float, int, str, object]] = []
        self.order = itertools.count()
        self.busy_until_s = 0.0
        self.busy = False

    def run(self) -> Outcome:
        for index, arrival in enumerate(self.arrivals):
            self.plan(arrival.at_s, "arrive", index)
            if arrival.leaves_s is not None:
                self.plan(arrival.leaves_s, "leave", index)
        while self.events:
            now_s, _, what, which = heapq.heappop(self.events)
            getattr(self, what)(now_s, which)
            if not self.busy:
                self.start(now_s)
            self.outcome.idle_with_work += not self.busy and self.queue.n_rows > 0
        return self.outcome

    def plan(self, at_s: float, what: str, which: object) -> None:
        heapq.heappush(self.events, (at_s, next(self.order), what, which))

    def arrive(self, now_s: float, index: int) -> None:
        arrival = self.arrivals[index]
        refusal = self.admission.refusal(
            arrival.n_rows,
            budget_s=arrival.budget_s,
            small_rows=self.queue.small_rows,
            large_rows=self.queue.large_rows,
            rest_s=max(1e-9, self.busy_until_s - now_s) if self.busy else 0.0,
        )
        if refusal is not None:
            self.outcome.refused.add(index)
            return
        ticket = Ticket("a", arrival.n_rows, now_s, now_s + arrival.budget_s)
        self.tickets[index], self.index[id(ticket)] = ticket, index
        self.queue.push(ticket)

    def leave(self, now_s: float, index: int) -> None:
        if index in self.tickets:
            self.queue.cancel(self.tickets[index])

    def start(self, now_s: float) -> None:
        batch = self.queue.take(now_s)
        self.admission.batch_taken(batch.n_rows)
        self.outcome.expired |= {self.index[id(ticket)] for ticket in batch.expired}
        if batch.slices:
            self.busy = True
            self.busy_until_s = now_s + self.admission.costs.typical_s(batch.n_rows)
            self.outcome.batches.append(batch.n_rows)
            self.plan(now_s + self.cost(batch.n_rows), "finish", (now_s, batch))

    def finish(self, now_s: float, which: object) -> None:
        started_s, batch = which  # type: ignore[misc]
        self.busy = False
        self.admission.observe(batch.n_rows, now_s - started_s)
        self.queue.max_rows = self.admission.max_rows
        for part in batch.slices:
            if part.stop == part.ticket.n_rows:
                self.outcome.answered_s[self.index[id(part.ticket)]] = now_s
