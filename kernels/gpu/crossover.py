"""Which device scores a batch: the GPU from a number of rows on that is measured when a model is loaded.

Rows must travel to a GPU and margins back, so it never pays for few rows, and for a small model
perhaps for none.
"""

import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

TRIED_ROWS = (1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18)
NEVER = sys.maxsize
REPEATS = 4
MOST_COLUMNS = 64
"""Different columns that are drawn for a measurement; features beyond them repeat these."""


class Kernel(Protocol):
    """What both devices offer."""

    @property
    def name(self) -> str:
        """What it is, for ``tandem inspect``."""

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the margins of ``X`` [n, F] to ``out`` [n, K]."""

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for ``F`` columns of ``n`` values."""


class Crossover:
    """Scores batches of ``n_rows`` rows and more on ``gpu``, smaller ones on ``cpu``, with the same bits."""

    def __init__(self, cpu: Kernel, gpu: Kernel, n_rows: int) -> None:
        self._cpu, self._gpu, self.n_rows = cpu, gpu, n_rows

    @property
    def name(self) -> str:
        """Both kernels and where one takes over from the other."""
        if self.n_rows == NEVER:
            return f"{self._cpu.name} (the GPU was never faster)"
        return f"{self._cpu.name}; from {self.n_rows:,} rows {self._gpu.name}"

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the margins of ``X`` [n, F] to ``out`` [n, K]."""
        (self._gpu if len(out) >= self.n_rows else self._cpu).score_rows(X, out)

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for ``F`` columns of ``n`` values."""
        (self._gpu if len(out) >= self.n_rows else self._cpu).score_columns(columns, out)


Cost = Callable[[Kernel, int], float]
"""Seconds that a kernel takes for a number of rows."""


def crossover_rows(cpu: Kernel, gpu: Kernel, cost_s: Cost) -> int:
    """The smallest tried number of rows at which the GPU is faster; ``NEVER`` if it is not at any.

    Larger ones are not tried: a call costs a GPU more than a CPU whatever the batch, so once it is ahead, it
    must be by the cost of a row, and stays ahead.
    """
    return next((n_rows for n_rows in TRIED_ROWS if cost_s(gpu, n_rows) < cost_s(cpu, n_rows)), NEVER)


def measured_cost(n_features: int, n_outputs: int, dtype: DTypeLike, out_dtype: DTypeLike) -> Cost:
    """A ``Cost`` that times random columns: the best of a few calls, after one that may compile."""

    @cache
    def columns_of(n_rows: int) -> list[NDArray[Any]]:
        size = (min(n_features, MOST_COLUMNS), n_rows)
        drawn = np.random.default_rng(0).normal(size=size).astype(dtype)
        return [drawn[feature % MOST_COLUMNS] for feature in range(n_features)]

    def cost_s(kernel: Kernel, n_rows: int) -> float:
        out = np.empty((n_rows, n_outputs), out_dtype)
        return min(call_s(kernel, columns_of(n_rows), out) for _ in range(REPEATS))

    return cost_s


def call_s(kernel: Kernel, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> float:
    """Seconds that one call of a kernel takes."""
    started_s = time.perf_counter()
    kernel.score_columns(columns, out)
    return time.perf_counter() - started_s
