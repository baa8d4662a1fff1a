"""Whether a request may wait: what batches cost, as learned, against the promise it has to keep.

Pure decisions, time passed in. Conservative on purpose: under overload an optimist answers
everybody late.
"""

import math
from typing import Protocol

import msgspec

RISE = 1.1
FALL = 0.999
"""An estimate rises by a tenth when exceeded and falls by a thousandth when not, so that in balance
one cost in a hundred is over it (ln 1.1 / 0.001 = 95): a p99 that forgets."""

CERTAIN_SHARE = 0.9
"""A request is admitted if it is answered within this share of its time: clients' clocks run earlier."""

CHEAP_BATCH_SHARE = 0.05
"""A batch that typically takes this share of the promise is never made smaller."""

RETRY_FALL = 0.99
"""An estimate that lets nobody wait, or cannot be, falls by this with each smaller batch: nothing else
would correct it."""

BEHIND_SHARE = 0.25
"""A request that lay unread for this share of its time tells that the loop itself is behind."""

LAG_FALL = 0.98
MOST_LAG_SHARE = 0.25
"""However late the event loop is, it takes at most this share of the promise off the deadlines."""
STEP = 1.02
"""A median moves by this factor, up or down."""

FULL_BATCH_SHARE = 1 / 3
"""A full batch takes at most this share of the promise: one under way, one ahead, one of one's own."""

YOUNG = 64
"""What so few batches have told is followed at once."""

LIGHT_SHARE = 0.5
"""A load is light while all who want to be in a batch, the refused among them, fill this share of it."""
BATCHES_REMEMBERED = 8
"""What wants to be in a batch is an average over about so many."""

MISSED_SHARE = 0.5
MISSED_SHARE_AT_MOST = 0.85
WORTH_DOUBLING = 1.8
"""A batch that typically takes at most this many times what half of it takes may take longer, as long as
who comes when ``MISSED_SHARE`` of the one under way is over is answered in time: smaller ones would answer
fewer, and hardly sooner. Once it is the cap, ``MISSED_SHARE_AT_MOST`` will do: what is over the typical cost
is the busy machine's doing, and smaller batches would be late by as much."""


def in_turn_s(turns: float, n_uncertain: float, typical_s: float, spread_s: float) -> float:
    """What batches one after the other take, 99 times in 100.

    What they typically take adds up. What is over it is chance, seldom in all of them at once, and
    adds up as sides of a right angle do: four batches are over by twice what one is. Were the 99th
    percentiles themselves added up, the batches of a noisy machine would stay half empty.

    Args:
        turns: How many there are.
        n_uncertain: How many may take longer, the one under way included.
        typical_s: What each typically takes.
        spread_s: By how much one in a hundred takes longer.
    """
    return turns * typical_s + math.sqrt(n_uncertain) * spread_s


class Costs(Protocol):
    """What batches cost."""

    def observe(self, n_rows: int, cost_s: float) -> None:
        """Learn from one batch."""

    def age(self, n_rows: int, fall: float) -> None:
        """Trust a little less in what was learned of batches of about ``n_rows``."""

    def cost_s(self, n_rows: int) -> float:
        """An upper bound for nearly all batches of at most ``n_rows``."""

    def typical_s(self, n_rows: int) -> float:
        """The middle of the costs of batches of about ``n_rows``."""


class CostModel:
    """Seconds that a batch takes, ``s(rows)``: a p99 and a median per power of two, never falling in rows."""

    __slots__ = ("_high", "_middle")

    def __init__(self) -> None:
        self._high: list[float | None] = [None] * 40
        self._middle: list[float] = [0.0] * 40

    def observe(self, n_rows: int, cost_s: float) -> None:
        """Learn from one batch."""
        bucket = (n_rows - 1).bit_length()
        high, middle = self._high[bucket], self._middle[bucket]
        if high is None:
            self._high[bucket] = self._middle[bucket] = cost_s
        else:
            # What is over the 99th percentile may be the new middle: follow it as fast.
            self._high[bucket] = high * (RISE if cost_s > high else FALL)
            self._middle[bucket] = middle * (RISE if cost_s > high else STEP if cost_s > middle else 1 / STEP)

    def age(self, n_rows: int, fall: float) -> None:
        """Let the estimate fall for a size that is not scored any more, so that it is tried again."""
        bucket = (n_rows - 1).bit_length()
        high = self._high[bucket]
        if high is not None:
            self._high[bucket] = high * fall
            self._middle[bucket] *= fall

    def cost_s(self, n_rows: int) -> float:
        """What a batch of at most ``n_rows`` takes, 99 times in 100; 0 where nothing was seen at all.

        Beyond the largest size seen, costs double with each step: rows together are never dearer
        than one by one.
        """
        bucket, largest, cost = (n_rows - 1).bit_length(), 0, 0.0
        for size, seen in enumerate(self._high[: bucket + 1]):
            if seen is not None:
                largest, cost = size, max(cost, seen)
        return cost * (1 << bucket - largest)

    def typical_s(self, n_rows: int) -> float:
        """What a batch of about ``n_rows`` takes, every other time; ``cost_s`` where it was not seen."""
        return self._middle[(n_rows - 1).bit_length()] or self.cost_s(n_rows)


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why a request is not admitted; put into words only when asked, which costs more than to decide.

    Attributes:
        n_rows: Its rows.
        n_waiting: The rows that wait already.
        wait_s: When its answer would be there; None where it would be in time and make others late.
    """

    n_rows: int
    n_waiting: int
    wait_s: float | None

    def __str__(self) -> str:
        if self.wait_s is None:
            return f"{self.n_rows} rows would make requests late that wait already"
        return f"{self.n_waiting} rows wait, an answer to {self.n_rows} more would take {self.wait_s:.3g} s"


class Admission:
    """Admits a request if it will be answered in time, whatever may still come behind it.

    Args:
        slo_s: The model's promise.
        most_rows: Most rows of a batch, however cheap.
        costs: What batches cost; learned if not given.

    Attributes:
        max_rows: Most rows of a batch now: the largest power of two whose cost leaves room in the promise.
        full_s: What such a batch costs.
        spread_s: How much of that is over what it typically costs.
        row_s: What one row takes, typically.
        lag_s: How late the event loop is, lately; counted against every deadline.
    """

    __slots__ = (
        "_limit_s", "_n_seen", "_refused_rows", "_slack_s", "_wanted_rows", "costs", "full_s", "lag_s",
        "max_rows", "most_rows", "row_s", "slo_s", "spread_s",
    )  # fmt: skip

    def __init__(self, slo_s: float, most_rows: int, costs: Costs | None = None) -> None:
        self.costs: Costs = CostModel() if costs is None else costs
        self.slo_s = slo_s
        self.most_rows = most_rows
        self._n_seen = 0
        self._refused_rows = 0
        self._wanted_rows = 0.0
        self._slack_s = self._limit_s = math.inf
        self.max_rows = most_rows
        self.full_s = self.row_s = self.lag_s = self.spread_s = 0.0

    def observe(self, n_rows: int, cost_s: float) -> None:
        """Learn from one batch; the cap follows every sixteenth time, and while it is young."""
        self.costs.observe(n_rows, cost_s)
        if self.max_rows < self.most_rows:
            self._age_next(n_rows, cost_s)
        two_fit_s = self.slo_s * CERTAIN_SHARE / 2
        if self.full_s > two_fit_s >= self.costs.cost_s(n_rows):
            self._retry(n_rows)
        self._n_seen += 1
        if self._n_seen < YOUNG or self._n_seen % 16 == 0:
            self.settle()

    def _age_next(self, n_rows: int, cost_s: float) -> None:
        """Let the size above the cap be tried again, soon if two full batches are cheaper than one such."""
        rows = 2 * self.max_rows
        cannot_be = n_rows > self.max_rows // 2 and self.costs.typical_s(rows) > 2 * cost_s
        self.costs.age(rows, RETRY_FALL if cannot_be else FALL)

    def _retry(self, n_rows: int) -> None:
        """Two such batches fit the promise and two full ones are thought not to, so nobody may wait."""
        rows = 2 * n_rows
        while rows <= self.max_rows:
            self.costs.age(rows, RETRY_FALL)
            rows *= 2

    def batch_taken(self, n_rows: int) -> None:
        """The next batch begins to collect, and need not be kept short for anybody yet.

        Args:
            n_rows: What the one before takes with it.
        """
        self._limit_s = math.inf
        self._wanted_rows += (n_rows + self._refused_rows - self._wanted_rows) / BATCHES_REMEMBERED
        self._refused_rows = 0

    def observe_lag(self, lag_s: float) -> None:
        """Learn how long a batch, or its scores, waited for the event loop; forgets within some batches."""
        if lag_s > self.lag_s:
            self.lag_s += (min(lag_s, self.slo_s * MOST_LAG_SHARE) - self.lag_s) / 8
        else:
            self.lag_s *= LAG_FALL

    def settle(self) -> None:
        """Choose the cap by what is known now."""
        rows = self.most_rows
        while rows > 1 and not self._leaves_room(rows):
            rows = 1 << (rows - 1).bit_length() - 1
        self.max_rows = rows
        self.full_s = self.costs.cost_s(rows)
        self.spread_s = max(0.0, self.full_s - self.costs.typical_s(rows))
        self.row_s = self.costs.typical_s(1)

    def _leaves_room(self, n_rows: int) -> bool:
        high_s, typical_s = self.costs.cost_s(n_rows), self.costs.typical_s(n_rows)
        if high_s <= self.slo_s * FULL_BATCH_SHARE:
            return True
        # Slow at times, because the machine is busy, not because of its rows.
        if typical_s <= self.slo_s * CHEAP_BATCH_SHARE:
            return True
        missed_share = MISSED_SHARE
        if n_rows == self.max_rows and self._n_seen >= YOUNG:
            # While full batches are scored, half ones are not: what those took in calmer times is no measure.
            missed_share = MISSED_SHARE_AT_MOST
        elif typical_s > WORTH_DOUBLING * self.costs.typical_s((n_rows + 1) // 2):
            return False
        spread_s = max(0.0, high_s - typical_s)
        return in_turn_s(2 - missed_share, 2, typical_s, spread_s) <= self.slo_s * CERTAIN_SHARE

    def refusal(
        self,
        n_rows: int,
        *,
        budget_s: float,
        small_rows: int,
        large_rows: int,
        rest_s: float,
        unread_s: float = 0.0,
    ) -> Refusal | None:
        """Why a request that arrives now would be late, or make another late; None admits it.

        A request that finds everything idle and fits one batch is always tried: nobody is hurt, and
        only what is tried is learned from. Nothing is idle where the loop is behind.

        One's own batch is costed full, as it may be by the time it starts. At a light load, one that only
        a full batch would make late is admitted too, and the batch is kept short for it.

        Args:
            n_rows: Its rows.
            budget_s: Seconds until its deadline.
            small_rows: Rows that wait in the small queue.
            large_rows: Rows that wait in the large queue.
            rest_s: What is typically left of the batch under way, 0 where there is none.
            unread_s: How long the request lay in its socket.
        """
        is_behind = unread_s > 0 and unread_s > BEHIND_SHARE * (unread_s + budget_s)
        budget_s = budget_s * CERTAIN_SHARE - self.lag_s
        if small_rows == 0:
            self._slack_s = self._limit_s = math.inf
        elif rest_s <= 0 and large_rows == 0 and n_rows + small_rows <= self.max_rows:
            # The usual case, a batch that grows while the loop collects: it is the next one.
            spare_s = budget_s - self.full_s
            if spare_s >= 0 and self._limit_s >= self.full_s:
                self._slack_s = min(self._slack_s, spare_s)
                return None
        if n_rows <= self.max_rows:
            if small_rows == large_rows == 0 and rest_s <= 0 and not is_behind:
                return None
            return self._refusal_small(n_rows, budget_s, small_rows, large_rows, rest_s)
        return self._refusal_large(n_rows, budget_s, small_rows, large_rows, rest_s)

    def _refusal_small(
        self, n_rows: int, budget_s: float, small_rows: int, large_rows: int, rest_s: float
    ) -> Refusal | None:
        own = -(-(small_rows + n_rows) // self.max_rows)
        turns = own + min(own, -(-large_rows // self.max_rows))
        typical_s = self.full_s - self.spread_s
        spare_s = budget_s - rest_s - in_turn_s(turns, turns + (rest_s > 0), typical_s, self.spread_s)
        n_next, n_waiting = small_rows + n_rows, small_rows + large_rows
        if spare_s < 0:
            if turns == 1 and self._keeps_short(n_next, budget_s - rest_s, rest_s):
                return None
            self._refused_rows += n_rows
            return Refusal(n_rows, n_waiting, budget_s - spare_s)
        if self._limit_s < math.inf and self._next_s(n_next, rest_s) > self._limit_s:
            self._refused_rows += n_rows
            return Refusal(n_rows, n_waiting, None)
        self._slack_s = min(self._slack_s, spare_s)
        return None

    def _keeps_short(self, n_rows: int, limit_s: float, rest_s: float) -> bool:
        """Let the next batch have these ``n_rows``, and no more than ``limit_s`` allows, if it can.

        Where full batches are needed it does not: short ones answer fewer.
        """
        limit_s = min(limit_s, self._limit_s)
        if self._wanted_rows > LIGHT_SHARE * self.max_rows or self._next_s(n_rows, rest_s) > limit_s:
            return False
        self._limit_s, self._slack_s = limit_s, 0.0
        return True

    def _next_s(self, n_rows: int, rest_s: float) -> float:
        """What the next batch takes with ``n_rows``, as surely as a full one."""
        n_rows = min(n_rows, self.max_rows)
        typical_s = self.costs.typical_s(n_rows)
        spread_s = max(0.0, self.costs.cost_s(n_rows) - typical_s)
        return in_turn_s(1, 1 + (rest_s > 0), typical_s, spread_s)

    def _refusal_large(
        self, n_rows: int, budget_s: float, small_rows: int, large_rows: int, rest_s: float
    ) -> Refusal | None:
        before, after = -(-large_rows // self.max_rows), -(-(large_rows + n_rows) // self.max_rows)
        wait_s = rest_s + 2 * after * self.full_s
        if wait_s > budget_s:
            return Refusal(n_rows, small_rows + large_rows, wait_s)
        small = -(-small_rows // self.max_rows)
        delay_s = (min(small, after) - min(small, before)) * self.full_s
        if delay_s > self._slack_s:
            return Refusal(n_rows, small_rows + large_rows, None)
        self._slack_s -= delay_s
        return None
