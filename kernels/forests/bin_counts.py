"""Count in which bins the features of scored rows fall, as they are scored, so that their drift can be seen.

A forest's kernel makes the bins of a chunk of rows; with a *tally*, it adds those of every STRIDE-th row
to it before the trees read them: the first row, the one STRIDE later and so on, over all calls. That is
an exact count of a systematic sample, whatever batches the rows come in. No score changes. Threads share a
tally: each addition is one step of the processor, and none waits for a lock.

A tally's counts are one int64 array, so those of several processes or hours add up. A bin lies
between two neighbouring thresholds of the forest (see ``binning``): the first and the last one of a
column are the values beyond its outermost thresholds, and the very last bin is missing values. Features
that no node tests have no bins.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import inlined, kernel
from kernels.forests.binning import Binning
from kernels.forests.simd import add_at
from kernels.parts import part

STRIDE = 61
"""One row in so many is counted: a sample tells of drift as well, and costs a fraction. A prime number, so
that batches of like size and order do not show the same rows each time."""
SEEN = 0
"""Where in the counts the number of rows is that were scored; those of bins follow it."""

Tally = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Where in the counts each column's bins begin, int64[C], and the counts, int64[1 + bins of all columns]."""
NO_TALLY: Tally = (np.empty(0, np.int64), np.empty(0, np.int64))
"""The tally of a kernel that does not count."""


@kernel
def count_chunk(model: NDArray[np.int64], tally: int, bins: NDArray[np.uint16], n_rows: int) -> None:
    """Add the bins of the rows whose turn it is to the model's tally, if it has one.

    Args:
        model: As ``model_at`` gives it.
        tally: The first of the two parts of the model that are its tally.
        bins: uint16[n_rows or more, C].
        n_rows: How many rows there are.
    """
    counts = part(model, tally + 1, np.int64)
    if len(counts):
        first_bin = part(model, tally, np.int64)
        seen = add_at(item_address(counts, SEEN), n_rows)
        for row in range(-seen % STRIDE, n_rows, STRIDE):
            for c in range(len(first_bin)):
                add_at(item_address(counts, first_bin[c] + bins[row, c]), 1)


@inlined
def item_address(items: NDArray[np.int64], index: int) -> int:
    """Where an item is."""
    return items.ctypes.data + index * items.itemsize


class CountedBins:
    """Where in a tally's counts the bins of a forest are, and what they say.

    Args:
        binning: The forest's.

    Attributes:
        features: int64[C], the feature of each column of bins; a feature may have several.
        first_bin: int64[C], where in the counts each column's bins begin.
        n_bins: int64[C], how many there are, missing values' included.
    """

    def __init__(self, binning: Binning) -> None:
        self.features: NDArray[np.int64] = binning.columns["feature"].copy()
        self.n_bins = binning.n_bins
        self.first_bin: NDArray[np.int64] = np.cumsum(np.append(SEEN + 1, binning.n_bins))[:-1]
        self._numeric: NDArray[np.bool_] = binning.columns["levels"] > 0

    def nothing(self) -> NDArray[np.int64]:
        """Counts to start from: zeros, int64[1 + bins of all columns]."""
        return np.zeros(SEEN + 1 + self.n_bins.sum(), np.int64)

    def of_column(self, counts: NDArray[np.int64], column: int) -> NDArray[np.int64]:
        """int64[n_bins[column]]: how many counted rows are in each of its bins."""
        first = self.first_bin[column]
        return counts[first : first + self.n_bins[column]]

    def missing(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[C], by column how many counted rows lacked the feature."""
        return counts[self.first_bin + self.n_bins - 1]

    def out_of_range(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[C, 2], how many were at most the least threshold, and above the greatest; 0 at categories."""
        ends = np.stack([counts[self.first_bin], counts[self.first_bin + self.n_bins - 2]], axis=1)
        return ends * self._numeric[:, None]
