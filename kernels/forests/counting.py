"""A forest's kernels that count bins as they score: a tally for each call under way, added up when asked.

Calls may run at the same time, and none waits for another or shares a counter with it: a call takes a
copy of the kernels that no other call has, with a tally of its own, and puts it back. The copies share
their tables. (How one is taken is written out twice: a single row would feel a method for it.)
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.forests.bin_counts import CountedBins
from kernels.forests.binning import Binning, Unsuited
from kernels.forests.choice import Choice, ForestKernel
from kernels.forests.forest import Forest
from kernels.forests.interleaved import Interleaved
from kernels.forests.interval_masks import IntervalMasks


class Counting:
    """The kernels chosen for a forest, with the same scores, counting; raises Unsuited if they make no bins.

    Attributes:
        name: The kernels' name.
        bins: What the counts mean.
    """

    def __init__(self, choice: Choice, forest: Forest, dtype: DTypeLike) -> None:
        self.name = choice.name
        self.bins = CountedBins(Binning.of(forest, dtype))
        self._choice, self._forest, self._dtype = choice, forest, dtype
        self._tallies: list[NDArray[np.int64]] = []
        self._idle: deque[Choice] = deque([self._copy()])

    def counts(self) -> NDArray[np.int64]:
        """What all calls that have ended have counted, int64[1 + bins of all columns]; see ``bin_counts``."""
        total: NDArray[np.int64] = np.sum(self._tallies, axis=0)
        return total

    def forget(self) -> None:
        """Count from 0 again; not while rows are scored."""
        for counts in self._tallies:
            counts[:] = 0

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the margins of ``X`` (C-order [n, F]) to ``out`` (C-order [n, K])."""
        try:
            kernels = self._idle.pop()
        except IndexError:  # as many calls are under way as never before
            kernels = self._copy()
        kernels.score_rows(X, out)
        self._idle.append(kernels)

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for ``F`` contiguous columns of ``n`` values."""
        try:
            kernels = self._idle.pop()
        except IndexError:
            kernels = self._copy()
        kernels.score_columns(columns, out)
        self._idle.append(kernels)

    def _copy(self) -> Choice:
        """The kernels with a tally of their own."""
        counts = self.bins.nothing()
        copies: dict[ForestKernel, ForestKernel] = {}
        for kernel in self._choice.by_rows.values():
            if not isinstance(kernel, IntervalMasks | Interleaved):
                raise Unsuited
            tally = (self.bins.first_bin, counts)
            copies[kernel] = type(kernel)(self._forest, self._dtype, kernel.arrays, tally)
        self._tallies.append(counts)
        return Choice({n_rows: copies[kernel] for n_rows, kernel in self._choice.by_rows.items()})
