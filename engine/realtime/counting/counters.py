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
from numpy.typing import NDArray

SECONDS = tuple(
    round(scale * step, 9)
    for scale in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    for step in (5, 7.5, 10, 15, 20, 30)
)
"""Upper bounds of latency buckets: from 50 µs to 30 s, at most 1.7 times apart."""
ROWS = tuple(float(1 << power) for power in range(17))
SIZES = (*(f"{rows:g}" for rows in ROWS), "+Inf")
"""Of batches: each up to so many rows, and over the one before."""
DOORS = ("json", "binary", "rows", "arrow", "grpc")
STATUSES = ("200", "400", "403", "404", "405", "408", "409", "413", "415", "429", "500", "503", "504")
SHED = ("overloaded", "expired", "cancelled")
STAGES = ("decode", "queue", "score", "encode")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, what it says, labels beside ``model``, a histogram's buckets."""

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    bounds: tuple[float, ...] = ()

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
    Family("tandem_shed_total", "Requests not scored, by reason.", "counter", (("reason", SHED),)),
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
_SHED = {reason: offset("tandem_shed_total", reason) for reason in SHED}
_LAST_S = MOMENTS[0]
_ROWS, _BAD = offset("tandem_rows_total"), offset("tandem_bad_rows_total")
_LATE, _IN_FLIGHT = offset("tandem_late_total"), offset("tandem_in_flight")
_FAILED_S = offset("tandem_failed_seconds_total")
_REQUEST_S, _BATCH_S = offset("tandem_request_seconds"), offset("tandem_batch_seconds")
_BATCH_ROWS = offset("tandem_batch_rows")
_MODEL_S, _MODEL_ROWS = (
    offset(name, SIZES[0]) for name in ("tandem_model_seconds_total", "tandem_model_rows_total")
)
_TOOK = np.array([_REQUEST_S, *(offset("tandem_stage_seconds", stage) for stage in STAGES)])
"""Where the histograms of a scored request's times begin."""
_TOOK_SUMS = _TOOK + len(SECONDS) + 1
MOST_KEPT = 512
"""Requests, and batches, whose times are kept before they are counted together."""


class ModelCounters:
    """Counts for one model, in ``CELLS_PER_MODEL`` cells that may lie in shared memory.

    Times of requests and batches are kept and counted together, a tenth of the work: ``settle`` brings the
    cells up to date. One flat list of numbers takes less time than packed bytes, or a list of tuples. What a
    killed replica must not take with it, requests and rows, is counted at once.
    """

    __slots__ = ("_batches", "_in_flight", "_times", "cells")

    def __init__(self, cells: "memoryview[int] | None" = None) -> None:
        self.cells = memoryview(bytearray(8 * CELLS_PER_MODEL)).cast("q") if cells is None else cells
        self._in_flight = 0
        self._times: list[float] = []
        self._batches: list[tuple[int, float, float]] = []

    def request_begun(self) -> None:
        """A request for the model is under way."""
        self._in_flight += 1

    def request_ended(self, door: str, status: int, took_s: float) -> None:
        """It has its answer, so long after it came."""
        self._in_flight -= 1
        self.cells[_DOOR[door] + _STATUS[status]] += 1
        if status != 200:
            self.cells[_FAILED_S] += int(took_s * 1e9)

    def request_left(self) -> None:
        """Nobody waits for its answer any more."""
        self._in_flight -= 1

    def request_scored(self, n_rows: int, n_bad: int, late: bool, times_s: tuple[float, ...]) -> None:
        """A request was scored.

        Args:
            n_rows: All its rows.
            n_bad: Those without a score.
            late: The answer came after the deadline.
            times_s: What it took in all, and of that decoding, waiting, scoring and encoding.
        """
        cells = self.cells
        cells[_ROWS] += n_rows
        if n_bad:
            cells[_BAD] += n_bad
        if late:
            cells[_LATE] += 1
        times = self._times
        times += times_s
        if len(times) >= MOST_KEPT * len(times_s):
            self.settle()

    def batch_scored(self, n_rows: int, cost_s: float) -> None:
        """One call of the model is over."""
        self._batches.append((n_rows, cost_s, time.time()))
        if len(self._batches) == MOST_KEPT:
            self.settle()

    def settle(self) -> None:
        """Count what is kept, and show what is under way."""
        self.cells[_IN_FLIGHT] = self._in_flight
        if self._times:
            self._count_times(np.array(self._times).reshape(-1, len(_TOOK)))
            self._times.clear()
        if self._batches:
            n_rows, seconds, moments = np.array(self._batches).T
            self._batches.clear()
            self._count(_BATCH_ROWS, ROWS, n_rows, 1)
            self._count(_BATCH_S, SECONDS, seconds, 1e9)
            self._add_by_size(_MODEL_S, n_rows, seconds * 1e9)
            self._add_by_size(_MODEL_ROWS, n_rows, n_rows)
            self.cells[_LAST_S] = int(moments[-1])

    def _count_times(self, times_s: NDArray[np.float64]) -> None:
        """Add the times of requests, [n, len(_TOOK)], to all their histograms, and their sums."""
        cells = np.asarray(self.cells)
        places = _TOOK + np.searchsorted(SECONDS, times_s)
        cells += np.bincount(places.ravel(), minlength=len(cells))
        cells[_TOOK_SUMS] += (times_s.sum(axis=0) * 1e9).astype(np.int64)

    def _count(self, at: int, bounds: tuple[float, ...], values: NDArray[np.float64], unit: float) -> None:
        """Add values to the histogram that begins ``at`` a cell, and their sum, in units of the cells."""
        cells, n_buckets = np.asarray(self.cells), len(bounds) + 1
        places = np.searchsorted(bounds, values)
        cells[at : at + n_buckets] += np.bincount(places, minlength=n_buckets)
        cells[at + n_buckets] += int(values.sum() * unit)

    def _add_by_size(self, at: int, n_rows: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Add values of batches to the cells that begin ``at`` one, by the rows of each batch."""
        sums = np.bincount(np.searchsorted(ROWS, n_rows), values, minlength=len(SIZES))
        np.asarray(self.cells)[at : at + len(SIZES)] += sums.astype(np.int64)

    def request_shed(self, reason: str) -> None:
        """A request was not scored."""
        self.cells[_SHED[reason]] += 1
