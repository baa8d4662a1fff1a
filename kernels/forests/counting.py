"""A forest's kernels that count bins as they score, into one tally whichever thread calls them."""

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.forests.bin_counts import CountedBins, Tally
from kernels.forests.binning import Binning, Unsuited
from kernels.forests.choice import Choice, ForestKernel
from kernels.forests.forest import Forest
from kernels.forests.tabulated import Tabulated


class Counting:
    """The kernels chosen for a forest, with the same scores, counting; raises Unsuited if they make no bins.

    Calls may run at the same time in several threads.

    Attributes:
        name: The kernels' name.
        bins: What the counts mean.
        score_rows: As the kernels'.
        score_columns: As the kernels'.
    """

    def __init__(self, choice: Choice, forest: Forest, dtype: DTypeLike) -> None:
        self.name = choice.name
        self.bins = CountedBins(Binning.of(forest, dtype))
        self._counts = self.bins.nothing()
        tally = (self.bins.first_bin, self._counts)
        copies = {kernel: _counting(kernel, forest, dtype, tally) for kernel in set(choice.by_rows.values())}
        counting = Choice({n_rows: copies[kernel] for n_rows, kernel in choice.by_rows.items()})
        self.score_rows, self.score_columns = counting.score_rows, counting.score_columns

    def counts(self) -> NDArray[np.int64]:
        """What all calls that have ended have counted, int64[1 + bins of all columns]; see ``bin_counts``."""
        return self._counts.copy()

    def forget(self) -> None:
        """Count from 0 again; not while rows are scored."""
        self._counts[:] = 0


def _counting(kernel: ForestKernel, forest: Forest, dtype: DTypeLike, tally: Tally) -> ForestKernel:
    """A kernel over the same tables that counts."""
    if not isinstance(kernel, Tabulated):
        raise Unsuited
    return type(kernel)(forest, dtype, kernel.arrays, tally)
