"""Count in which bins the features of scored rows fall, so that their drift can be seen.

Off unless somebody calls it: no scoring kernel knows of it. Rows are counted by a stride, the first,
the one ``stride`` later and so on, over all calls: an exact count of a systematic sample, which does
not depend on how the rows were cut into batches. Counts are one int64 array; those of several threads,
processes or hours add up. Threads that count at the same time need an array each.

A bin lies between two neighbouring thresholds of the forest (see ``binning``). So the first and the
last one are the values beyond its outermost thresholds, and the very last bin is missing values.
Features that no node tests are not counted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from kernels.compiler import kernel
from kernels.forests.binning import Binning, bin_columns
from kernels.forests.simd import pointer_at

STRIDE = 16
"""Counts one row in so many, at less than a hundredth of the time that scoring takes."""
TILE_ROWS = 128
"""Counted rows that are binned together."""
SEEN, COUNTED = -2, -1
"""Where in the counts the number of rows offered and of rows counted are."""


@kernel
def count_rows(
    columns: NDArray[Any],
    edges: NDArray[Any],
    classes: NDArray[np.uint16],
    first_bin: NDArray[np.int64],
    X: NDArray[Any],
    first: int,
    stride: int,
    counts: NDArray[np.int64],
) -> None:
    """Add the bins of the rows ``first``, ``first + stride``, … of ``X`` to ``counts``.

    Args:
        columns: COLUMN[C].
        edges: As in ``bin_columns``.
        classes: As in ``bin_columns``.
        first_bin: int64[C], where in ``counts`` each column's bins begin.
        X: C-order [n, F] of the type of ``edges``; NaN is missing.
        first: The first row to count.
        stride: How far apart counted rows lie.
        counts: int64[bins of all columns, or more].
    """
    tile = np.empty((TILE_ROWS, X.shape[1]), X.dtype)
    bins = np.empty((TILE_ROWS, len(columns)), np.uint16)
    filled = 0
    for row in range(first, X.shape[0], stride):
        for feature in range(X.shape[1]):
            tile[filled, feature] = X[row, feature]
        filled += 1
        if filled == TILE_ROWS:
            count_tile(columns, edges, classes, first_bin, tile, bins, counts)
            filled = 0
    count_tile(columns, edges, classes, first_bin, tile[:filled], bins, counts)


@kernel
def count_arrays(
    columns: NDArray[Any],
    edges: NDArray[Any],
    classes: NDArray[np.uint16],
    first_bin: NDArray[np.int64],
    addresses: NDArray[np.int64],
    n_rows: int,
    first: int,
    stride: int,
    counts: NDArray[np.int64],
) -> None:
    """The same for features that lie in an array each.

    Args:
        columns: This and the following three as in ``count_rows``.
        edges: As in ``count_rows``.
        classes: As in ``count_rows``.
        first_bin: As in ``count_rows``.
        addresses: int64[F], of contiguous columns of ``n_rows`` values.
        n_rows: How many rows there are.
        first: As in ``count_rows``.
        stride: As in ``count_rows``.
        counts: As in ``count_rows``.
    """
    tile = np.empty((TILE_ROWS, len(addresses)), edges.dtype)
    bins = np.empty((TILE_ROWS, len(columns)), np.uint16)
    for start in range(first, n_rows, stride * TILE_ROWS):
        filled = min(TILE_ROWS, (n_rows - start + stride - 1) // stride)
        for feature in range(len(addresses)):
            values = carray(pointer_at(addresses[feature]), n_rows, edges.dtype)
            for place in range(filled):
                tile[place, feature] = values[start + place * stride]
        count_tile(columns, edges, classes, first_bin, tile[:filled], bins, counts)


@kernel
def count_tile(
    columns: NDArray[Any],
    edges: NDArray[Any],
    classes: NDArray[np.uint16],
    first_bin: NDArray[np.int64],
    tile: NDArray[Any],
    bins: NDArray[np.uint16],
    counts: NDArray[np.int64],
) -> None:
    """Bin the rows of ``tile`` and add them to ``counts``; ``bins`` is room for them."""
    bin_columns(columns, 0, len(columns), edges, classes, tile, 0, bins)
    for row in range(tile.shape[0]):
        for c in range(len(columns)):
            counts[first_bin[c] + bins[row, c]] += 1


class BinCounter:
    """Counts rows in the bins of a forest.

    Args:
        binning: The forest's, for features of the type of the rows to come.
        stride: One row in so many is counted.

    Attributes:
        features: int64[C], the feature of each bin column; a feature may have several.
        first_bin: int64[C + 1], where each column's bins begin in the counts, then their number.
    """

    def __init__(self, binning: Binning, stride: int = STRIDE) -> None:
        self.features: NDArray[np.int64] = binning.columns["feature"]
        self.first_bin: NDArray[np.int64] = np.cumsum(np.append(0, binning.n_bins))
        self._numeric: NDArray[np.bool_] = binning.columns["levels"] > 0
        self._binning = (binning.columns, binning.edges, binning.classes, self.first_bin)
        self._stride = stride

    def nothing(self) -> NDArray[np.int64]:
        """Counts to start from: int64[bins of all columns + 2], at SEEN and COUNTED numbers of rows."""
        return np.zeros(self.first_bin[-1] + 2, np.int64)

    def count_rows(self, X: NDArray[Any], counts: NDArray[np.int64]) -> None:
        """Add the rows of ``X`` (C-order [n, F]) whose turn it is to ``counts``."""
        first = self._first_of(len(X), counts)
        if first < len(X):
            count_rows(*self._binning, X, first, self._stride, counts)

    def count_columns(self, columns: Sequence[NDArray[Any]], n_rows: int, counts: NDArray[np.int64]) -> None:
        """The same for ``F`` contiguous columns of ``n_rows`` values each."""
        first = self._first_of(n_rows, counts)
        if first < n_rows:
            addresses = np.array([column.ctypes.data for column in columns], np.int64)
            count_arrays(*self._binning, addresses, n_rows, first, self._stride, counts)

    def missing(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[C], by column how many counted rows lacked the feature."""
        return counts[self.first_bin[1:] - 1]

    def out_of_range(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[C, 2], how many were at most the least threshold, and above the greatest; 0 at categories."""
        ends = np.stack([counts[self.first_bin[:-1]], counts[self.first_bin[1:] - 2]], axis=1)
        return ends * self._numeric[:, None]

    def _first_of(self, n_rows: int, counts: NDArray[np.int64]) -> int:
        first = -int(counts[SEEN]) % self._stride
        counts[SEEN] += n_rows
        counts[COUNTED] += len(range(first, n_rows, self._stride))
        return first
