"""What the real-time path counts, declared once, and the plain int64 cells it counts in.

Cells are addable: the arrays of several replicas, added, are the counts of a node; of ``MOMENTS``, the
latest is. Times are nanoseconds in the cells and seconds when rendered (``exposition``).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from kernels import histograms

SECONDS = tuple(
    round(scale * step, 9)
    for scale in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    for step in (5, 7.5, 10, 15, 20, 30)
)
"""Upper bounds of latency buckets: from 50 µs to 30 s, at most 1.7 times apart."""
ROWS = tuple(float(1 << power) for power in range(17))
SIZES = (*(f"{rows:g}" for rows in ROWS), "+Inf")
"""Of batches: each up to so many rows, and over the one before."""
DOORS = ("oip", "binary", "rows", "arrow", "grpc")
STATUSES = ("200", "400", "403", "404", "405", "408", "409", "413", "415", "429", "500", "503", "504")
SHED = ("overloaded", "expired", "cancelled")
STAGES = ("decode", "queue", "score", "encode")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, what it says, labels beside ``model``, a histogram's buckets.

    With labels, series of 0 are left out, unless they are few and their first count is to be an increase.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    bounds: tuple[float, ...] = ()
    is_shown_at_0: bool = False

    @property
    def n_cells(self) -> int:
        """Cells of one series: a value, or every bucket, the one without bound, and the sum."""
        return len(self.bounds) + 2 if self.bounds else 1

    def series(self) -> Iterator[tuple[str, ...]]:
        """All combinations of label values."""
        return product(*(values for _, values in self.labels))


FAMILIES = (
    Family(
        "tandem_requests_total",
        "Requests answered, by door and status.",
        "counter",
        (("door", DOORS), ("status", STATUSES)),
    ),
    Family("tandem_rows_total", "Rows scored.", "counter"),
    Family("tandem_bad_rows_total", "Rows that broke a rule of a feature or failed in the model.", "counter"),
    Family(
        "tandem_shed_total",
        "Requests not scored, by reason.",
        "counter",
        (("reason", SHED),),
        is_shown_at_0=True,
    ),
    Family("tandem_late_total", "Requests answered after their deadline.", "counter"),
    Family("tandem_failed_seconds_total", "Time of requests answered without scores.", "counter"),
    Family("tandem_in_flight", "Requests under way.", "gauge"),
    Family("tandem_last_scored_timestamp_seconds", "When a request was last scored.", "gauge"),
    Family(
        "tandem_request_seconds", "From the request's first line to its answer.", "histogram", (), SECONDS
    ),
    Family("tandem_stage_seconds", "Parts of a request's time.", "histogram", (("stage", STAGES),), SECONDS),
    Family("tandem_batch_seconds", "Time in the model, per batch.", "histogram", (), SECONDS),
    Family("tandem_batch_rows", "Rows scored together.", "histogram", (), ROWS),
    Family("tandem_model_seconds_total", "Time in the model, by batch size.", "counter", (("rows", SIZES),)),
    Family("tandem_model_rows_total", "Rows scored, by batch size.", "counter", (("rows", SIZES),)),
)
CELLS_PER_MODEL = sum(family.n_cells * len(list(family.series())) for family in FAMILIES)


def offset(name: str, *labels: str) -> int:
    """Where a series begins in the cells of a model."""
    at = 0
    for family in FAMILIES:
        for series in family.series():
            if family.name == name and series == labels:
                return at
            at += family.n_cells
    raise KeyError(name, *labels)


GAUGES = (offset("tandem_in_flight"),)
"""Cells that mean something only while their process lives."""
MOMENTS = (offset("tandem_last_scored_timestamp_seconds"),)
"""Cells in whole seconds since 1970; of several replicas the latest holds, not the sum."""
_REQUESTS = offset("tandem_requests_total", DOORS[0], STATUSES[0])
_DOOR = {door: _REQUESTS + index * len(STATUSES) for index, door in enumerate(DOORS)}
_STATUS = {int(status): index for index, status in enumerate(STATUSES)}
_SCORED = {door: at + _STATUS[200] for door, at in _DOOR.items()}
_SHED = {reason: offset("tandem_shed_total", reason) for reason in SHED}
_BAD, _LATE = offset("tandem_bad_rows_total"), offset("tandem_late_total")
_IN_FLIGHT, _FAILED_S = GAUGES[0], offset("tandem_failed_seconds_total")
_PLACES = {
    histograms.ROWS: offset("tandem_rows_total"),
    histograms.TOTAL: offset("tandem_request_seconds"),
    histograms.DECODE: offset("tandem_stage_seconds", "decode"),
    histograms.QUEUE: offset("tandem_stage_seconds", "queue"),
    histograms.SCORE: offset("tandem_stage_seconds", "score"),
    histograms.ENCODE: offset("tandem_stage_seconds", "encode"),
    histograms.BATCH_TIME: offset("tandem_batch_seconds"),
    histograms.BATCH_SIZE: offset("tandem_batch_rows"),
    histograms.TIME_OF_SIZE: offset("tandem_model_seconds_total", SIZES[0]),
    histograms.ROWS_OF_SIZE: offset("tandem_model_rows_total", SIZES[0]),
    histograms.LAST: MOMENTS[0],
}


class ModelCounters:
    """Counts for one model, in ``CELLS_PER_MODEL`` cells that may lie in shared memory.

    All is counted at once, so a killed replica takes nothing with it; only how many requests are under way is
    an ordinary number, for ``settle`` to show.
    """

    __slots__ = ("_count_batch", "_count_request", "_in_flight", "cells")

    def __init__(self, cells: "memoryview[int] | None" = None) -> None:
        self.cells = memoryview(bytearray(8 * CELLS_PER_MODEL)).cast("q") if cells is None else cells
        self._in_flight = 0
        self._count_request, self._count_batch = histograms.counts_into(
            np.asarray(self.cells),
            np.array(SECONDS),
            np.array(ROWS),
            np.array([_PLACES[place] for place in range(len(_PLACES))]),
        )

    def request_begun(self) -> None:
        """A request for the model is under way."""
        self._in_flight += 1

    def request_ended(self, door: str, status: int, took_s: float) -> None:
        """It has an answer without scores, so long after it came."""
        self._in_flight -= 1
        self.cells[_DOOR[door] + _STATUS[status]] += 1
        self.cells[_FAILED_S] += int(took_s * 1e9)

    def request_left(self) -> None:
        """Nobody waits for its answer any more."""
        self._in_flight -= 1

    def request_scored(
        self,
        door: str,
        n_rows: int,
        n_bad: int,
        is_late: bool,
        total_s: float,
        decode_s: float,
        queue_s: float,
        score_s: float,
        encode_s: float,
    ) -> None:
        """It has its scores.

        Args:
            door: It came through.
            n_rows: All its rows.
            n_bad: Those without a score.
            is_late: The answer came after the deadline.
            total_s: What it took in all.
            decode_s: Of that, to read it.
            queue_s: To wait for the model.
            score_s: In the model.
            encode_s: To write the answer.
        """
        self._in_flight -= 1
        self._count_request(_SCORED[door], n_rows, total_s, decode_s, queue_s, score_s, encode_s)
        if n_bad:
            self.cells[_BAD] += n_bad
        if is_late:
            self.cells[_LATE] += 1

    def batch_scored(self, n_rows: int, cost_s: float) -> None:
        """One call of the model is over."""
        self._count_batch(n_rows, cost_s, int(time.time()))

    def request_shed(self, reason: str) -> None:
        """A request was not scored."""
        self.cells[_SHED[reason]] += 1

    def settle(self) -> None:
        """Show how many requests are under way."""
        self.cells[_IN_FLIGHT] = self._in_flight
