"""Whether a request may wait: what batches cost, as learned, against the promise it has to keep.

Pure decisions, time passed in. Conservative on purpose: under overload an optimist answers
everybody late.
"""

import math
from typing import Protocol

import msgspec

RISE = 1.1
FALL = 0.998
"""An estimate rises by a tenth when exceeded and falls by a five-hundredth when not, so that in balance
one cost in fifty is over it (ln 1.1 / 0.002 = 48): a p98 that forgets."""
CALM = 150
CALM_FALL = 0.99
"""So many costs in a row within the estimate happen by chance one time in twenty (0.98 ** 150). It then falls
faster, until it is exceeded again: bad times are forgotten within some hundred batches."""
STEP = 1.02
"""A median moves by this factor, up or down."""

CERTAIN_SHARE = 0.9
"""A request is admitted if it is answered within this share of its time: clients' clocks run earlier."""

BEHIND_SHARE = 0.25
"""A request that lay unread for this share of its time tells that the loop itself is behind."""

LAG_FALL = 0.98
MOST_LAG_SHARE = 0.25
"""However late the event loop is, it takes at most this share of the promise off the deadlines."""

FULL_BATCH_SHARE = 1 / 3
"""A full batch may take this share of the promise: one under way, one ahead, one of one's own."""
WORTH_DOUBLING = 1.8
MISSED_SHARE = 0.5
"""A batch that takes at most ``WORTH_DOUBLING`` times what half of it takes may take longer, as long as who
comes when ``MISSED_SHARE`` of the one under way is over is answered in time: smaller ones would answer fewer,
and hardly sooner."""
MISSED_SHARE_AT_MOST = 0.3
"""Whatever the machine does, who comes after this share of the batch under way may wait for the next. A
margin that lets nobody wait keeps no promise: it only leaves the batches empty."""

YOUNG = 64
"""What so few batches have told is followed at once."""

BATCHES_REMEMBERED = 8
"""What wants to be in a batch is an average over about so many."""


def in_turn_s(turns: float, n_uncertain: float, typical_s: float, spread_s: float) -> float:
    """What batches one after the other take, as surely as one of them takes its cost and the spread.

    What they typically take adds up. What is over it is chance, seldom in all of them at once, and
    adds up as sides of a right angle do: four batches are over by twice what one is. Were the spreads
    themselves added up, the batches of a noisy machine would stay half empty.

    Args:
        turns: How many there are.
        n_uncertain: How many may take longer, the one under way included.
        typical_s: What each typically takes.
        spread_s: By how much one takes longer, at most, as surely as is wanted.
    """
    return turns * typical_s + math.sqrt(n_uncertain) * spread_s


class Costs(Protocol):
    """What batches cost.

    Attributes:
        spread_s: By how much one batch in fifty takes longer than is typical of its size.
    """

    spread_s: float

    def observe(self, n_rows: int, cost_s: float) -> None:
        """Learn from one batch."""

    def typical_s(self, n_rows: int) -> float:
        """The middle of the costs of batches of about ``n_rows``; never less than that of smaller ones."""


class CostModel:
    """Seconds that a batch takes: a curve over its rows, times the machine's pace, and a spread above.

    The curve has a point for each power of two, drawn when a size is first seen. Pace and spread are
    learned from all batches together: when the machine turns slow while batches are large and recovers
    while they are small, the small ones tell of the large ones too. Were each size learned by itself, what
    the large ones took in bad times would be believed, and so keep them from being tried, for ever.

    Attributes:
        spread_s: By how much one batch in fifty takes longer than is typical of its size.
    """

    __slots__ = ("_curve", "_n_calm", "_pace", "spread_s")

    def __init__(self) -> None:
        self._curve: list[float] = []
        self._pace = 1.0
        self._n_calm = 0
        self.spread_s = 0.0

    def observe(self, n_rows: int, cost_s: float) -> None:
        """Learn from one batch."""
        size = (n_rows - 1).bit_length()
        if size >= len(self._curve):
            self._extend(size, cost_s / self._pace)
            return
        typical_s = self.typical_s(n_rows)
        high_s = typical_s + self.spread_s
        if cost_s > high_s:
            # It may be the new middle: follow it as fast.
            self._n_calm = 0
            self._pace *= RISE
            self.spread_s += (RISE - 1) * high_s
        else:
            self._n_calm += 1
            fall = FALL if self._n_calm < CALM else CALM_FALL
            self.spread_s = max(0.0, self.spread_s - (1 - fall) * high_s)
            self._pace *= STEP if cost_s > typical_s else 1 / STEP

    def typical_s(self, n_rows: int) -> float:
        """The middle of the costs of batches of ``n_rows``; 0 where nothing was seen at all.

        Between the points of the curve costs are a straight line, and beyond its last they grow as the rows
        do: rows together are never dearer than one by one.
        """
        curve, size = self._curve, (n_rows - 1).bit_length()
        if size >= len(curve):
            return self._pace * curve[-1] * n_rows / (1 << len(curve) - 1) if curve else 0.0
        if size == 0:
            return self._pace * curve[0]
        half = 1 << size - 1
        return self._pace * (curve[size - 1] + (curve[size] - curve[size - 1]) * (n_rows - half) / half)

    def _extend(self, size: int, cost: float) -> None:
        """Draw the curve on to a size not seen before; it never falls, and at most doubles with each step."""
        seen = self._curve
        if seen:
            cost = min(cost, seen[-1] * (1 << size + 1 - len(seen)))
        self._curve = [min(point, cost) for point in seen] + [cost] * (size + 1 - len(seen))


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
        typical_s: What such a batch takes.
        margin_s: How much longer it may take.
        row_s: What one row takes, typically.
        lag_s: How late the event loop is, lately; counted against every deadline.
    """

    __slots__ = (
        "_limit_s", "_n_seen", "_refused_rows", "_slack_s", "_wanted_rows", "costs", "lag_s", "margin_s",
        "max_rows", "most_rows", "row_s", "slo_s", "typical_s",
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
        self.typical_s = self.margin_s = self.row_s = self.lag_s = 0.0

    def observe(self, n_rows: int, cost_s: float) -> None:
        """Learn from one batch; the cap follows every sixteenth time, and while it is young."""
        self.costs.observe(n_rows, cost_s)
        self._n_seen += 1
        if self._n_seen < YOUNG or self._n_seen % 16 == 0:
            self.settle()

    def adopt(self, costs: Costs) -> None:
        """Believe other costs from now on, those of another revision; the machine scatters as before."""
        costs.spread_s = max(costs.spread_s, self.costs.spread_s)
        self.costs = costs
        self.settle()

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
        """Choose the cap and the margin by what is known now."""
        rows = self.most_rows
        while rows > 1 and not self._leaves_room(rows):
            rows = 1 << (rows - 1).bit_length() - 1
        self.max_rows = rows
        self.typical_s = self.costs.typical_s(rows)
        self.margin_s = self._margin_s(self.typical_s)
        self.row_s = self.costs.typical_s(1)

    def _leaves_room(self, n_rows: int) -> bool:
        typical_s = self.costs.typical_s(n_rows)
        if typical_s <= self.slo_s * FULL_BATCH_SHARE:
            return True
        if typical_s > WORTH_DOUBLING * self.costs.typical_s((n_rows + 1) // 2):
            return False
        # The cap stays as long as it leaves any margin: it would go up and down with every stall.
        spread_s = 0.0 if n_rows == self.max_rows else self.costs.spread_s
        missed_share = MISSED_SHARE_AT_MOST if n_rows == self.max_rows else MISSED_SHARE
        return in_turn_s(2 - missed_share, 2, typical_s, spread_s) <= self.slo_s * CERTAIN_SHARE

    def _margin_s(self, typical_s: float) -> float:
        """The spread, as far as somebody may still wait."""
        room_s = self.slo_s * CERTAIN_SHARE - (2 - MISSED_SHARE_AT_MOST) * typical_s
        return min(self.costs.spread_s, max(0.0, room_s) / math.sqrt(2))

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

        One's own batch is costed full, as it may be by the time it starts. One that only a full batch would
        make late is admitted too if a usual one would not, and the batch is kept short for it.

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
            full_s = self.typical_s + self.margin_s
            spare_s = budget_s - full_s
            if spare_s >= 0 and self._limit_s >= full_s:
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
        turns_s = in_turn_s(turns, turns + (rest_s > 0), self.typical_s, self.margin_s)
        spare_s = budget_s - rest_s - turns_s
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
        """Let the next batch take at most ``limit_s``, if that does for ``n_rows``, and for a usual batch.

        Where full batches are usual it cannot: to keep them short for one would refuse many.
        """
        limit_s = min(limit_s, self._limit_s)
        if self._next_s(max(n_rows, math.ceil(self._wanted_rows)), rest_s) > limit_s:
            return False
        self._limit_s, self._slack_s = limit_s, 0.0
        return True

    def _next_s(self, n_rows: int, rest_s: float) -> float:
        """What the next batch takes with ``n_rows``, as surely as a full one."""
        typical_s = self.costs.typical_s(min(n_rows, self.max_rows))
        return in_turn_s(1, 1 + (rest_s > 0), typical_s, self.margin_s)

    def _refusal_large(
        self, n_rows: int, budget_s: float, small_rows: int, large_rows: int, rest_s: float
    ) -> Refusal | None:
        before, after = -(-large_rows // self.max_rows), -(-(large_rows + n_rows) // self.max_rows)
        full_s = self.typical_s + self.margin_s
        wait_s = rest_s + 2 * after * full_s
        if wait_s > budget_s:
            return Refusal(n_rows, small_rows + large_rows, wait_s)
        small = -(-small_rows // self.max_rows)
        delay_s = (min(small, after) - min(small, before)) * full_s
        if delay_s > self._slack_s:
            return Refusal(n_rows, small_rows + large_rows, None)
        self._slack_s -= delay_s
        return None
