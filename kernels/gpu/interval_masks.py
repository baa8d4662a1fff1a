"""The CUDA twin of interval masks: the same bins, tables and sums, hence the same bits.

A value's bin is found by bisection among the edges that the CPU searches 16 at a time. Then a block of
threads scores a tile of rows, one block of trees after the other, in two steps. First a thread owns a
word of the mask rows: the ROW_WORDS threads of a row AND one mask row per feature, each a single load
of ROW_BYTES that lie together, and write the lowest bit of each lane, the leaf, to shared memory. Then
a thread owns a row and adds up its leaves in tree order.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import DTypeLike, NDArray

from kernels.forests.binning import Binning
from kernels.forests.ending import Ending
from kernels.forests.forest import Forest
from kernels.forests.mask_lookups import ROW_WORDS
from kernels.forests.mask_tables import MaskTables
from kernels.forests.simd import ROW_BYTES
from kernels.gpu.device import (
    THREADS_PER_BLOCK,
    chunks,
    launch,
    to_device,
    uninitialised,
)

WORD_BITS = 64
ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
TILE_ROWS = THREADS_PER_BLOCK
"""Rows of a block of threads: as many as threads, since each thread adds up one."""
ROWS_AT_ONCE = THREADS_PER_BLOCK // ROW_WORDS
"""Rows whose mask rows are looked up at the same time."""
LEAF_PITCH = ROW_BYTES + 4
"""Bytes from one row's leaves to the next one's in shared memory: threads then meet in no bank."""
LOOKUP = np.dtype(
    [("place", np.int64), ("categorical", np.int64), ("start", np.int64), ("last", np.int64)], align=True
)
"""How to bin a column: where among the features sent its own is; from ``edges[start]`` on are ``last - 1``
edges, ``last`` being NaN's bin, or from ``classes[start]`` on the bins of ``last`` codes, others and NaN."""


def bin_values(
    lookups: NDArray[Any],
    edges: NDArray[Any],
    classes: NDArray[np.uint16],
    values: NDArray[Any],
    feature_step: int,
    row_step: int,
    bins: NDArray[np.uint16],
) -> None:
    """Write the bins of all columns.

    Args:
        lookups: LOOKUP[C].
        edges: float32 or float64[E], as LOOKUP says.
        classes: uint16[K], as LOOKUP says.
        values: The features sent, of the type of ``edges``, flat; NaN is missing.
        feature_step: From a row's feature to the next one in ``values``.
        row_step: From a feature's row to the next one in ``values``.
        bins: uint16[C, n].
    """
    row = cuda.grid(1)
    if row < bins.shape[1]:
        for c in range(len(lookups)):
            lookup = lookups[c]
            start, last = lookup["start"], lookup["last"]
            x = values[lookup["place"] * feature_step + row * row_step]
            if lookup["categorical"]:
                code = last + 1
                if x == x:
                    code = np.int64(x) if -1.0 < x < last else last
                bins[c, row] = classes[start + code]
            elif x != x:
                bins[c, row] = last
            else:
                low, high = 0, last - 1
                while low < high:
                    middle = (low + high) // 2
                    if edges[start + middle] < x:
                        low = middle + 1
                    else:
                        high = middle
                bins[c, row] = low


def add_blocks(
    blocks: NDArray[Any],
    runs: NDArray[Any],
    masks: NDArray[np.uint64],
    pairs: NDArray[np.uint32],
    local: NDArray[np.uint16],
    leaf_value: NDArray[Any],
    base: NDArray[Any],
    bins: NDArray[np.uint16],
    out: NDArray[Any],
) -> None:
    """Write the sums of all trees, from ``base`` on.

    Args:
        blocks: This and the others to ``leaf_value`` as in ``MaskTables``.
        runs: As in ``MaskTables``.
        masks: As in ``MaskTables``.
        pairs: As in ``MaskTables``.
        local: As in ``MaskTables``.
        leaf_value: As in ``MaskTables``.
        base: [K], where the sums start, in the type of ``out``.
        bins: uint16[C, n], as ``bin_values`` writes them.
        out: [n, K], float32 or float64.
    """
    leaves = cuda.shared.array((TILE_ROWS, LEAF_PITCH), np.uint8)
    thread = cuda.threadIdx.x
    first_row = cuda.blockIdx.x * TILE_ROWS
    row = first_row + thread
    if row < out.shape[0]:
        for k in range(out.shape[1]):
            out[row, k] = base[k]
    word = thread % ROW_WORDS
    for b in range(len(blocks)):
        block = blocks[b]
        lane_bits, symmetric, leaf_stride = block["lane_bits"], block["symmetric"], block["leaf_stride"]
        first_pair, end_pair, first_mask = block["first_pair"], block["end_pair"], block["first_mask"]
        n_lanes = WORD_BITS // lane_bits
        lane_ones = ALL_ONES >> np.uint64(WORD_BITS - lane_bits)
        for tile_row in range(thread // ROW_WORDS, TILE_ROWS, ROWS_AT_ONCE):
            if first_row + tile_row < out.shape[0]:
                lanes = ALL_ONES
                for pair in range(first_pair, end_pair):
                    bin_ = bins[pairs[pair, 0], first_row + tile_row]
                    lanes &= masks[first_mask + local[pairs[pair, 1] + bin_], word]
                for i in range(n_lanes):
                    lane = (lanes >> np.uint64(i * lane_bits)) & lane_ones
                    if not symmetric:
                        lane = cuda.popc(~lane & (lane - np.uint64(1)))  # the number of its lowest bit
                    leaves[tile_row, word * n_lanes + i] = lane
        cuda.syncthreads()
        if row < out.shape[0]:
            for r in range(block["first_run"], block["end_run"]):
                run = runs[r]
                k, place = run["output"], run["first_leaf"]
                total = out[row, k]
                for tree in range(run["first_lane"], run["end_lane"]):
                    total += leaf_value[place + leaves[thread, tree]]
                    place += leaf_stride
                out[row, k] = total
        cuda.syncthreads()


class GpuIntervalMasks:
    """Scores a forest of small trees on a GPU; raises Unsuited for others.

    The features that the forest tests travel there, and margins back. Bins would be fewer bytes, but a
    processor takes longer to find them than to send the values.

    Attributes:
        n_lookups: How many mask rows are looked up for a row.
        n_bytes: How large all tables are.
    """

    name = "interval masks (CUDA)"

    def __init__(self, forest: Forest, dtype: DTypeLike) -> None:
        binning = Binning.of(forest, dtype)
        tables = MaskTables.of(forest, binning)
        self._ending = Ending.of(forest)
        self._dtype = np.dtype(dtype)
        self._used = np.unique(binning.columns["feature"])
        self._all_used = len(self._used) == forest.n_features
        self._n_columns, self._n_blocks = len(binning.columns), len(tables.blocks)
        self.n_lookups = len(tables.pairs)
        searched = (lookups(binning.columns, self._used), binning.edges, binning.classes)
        records = (aligned(tables.blocks), aligned(tables.runs))
        arrays = (tables.masks, tables.pairs, tables.local, tables.leaf_value, self._ending.base)
        added = (*records, *arrays)
        self.n_bytes = sum(array.nbytes for array in (*searched, *added))
        self._searched = tuple(map(to_device, searched))
        self._added = tuple(map(to_device, added))

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the margins of ``X`` (C-order [n, F]) to ``out`` (C-order [n, K])."""
        for rows in chunks(len(out), X.shape[1]):
            sent = np.ascontiguousarray(X[rows] if self._all_used else X[rows][:, self._used])
            self._score(to_device(sent.ravel()), 1, len(self._used), out[rows])
        self._ending.finish(out)

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for ``F`` columns of ``n`` values."""
        for rows in chunks(len(out), len(columns)):
            n_rows = rows.stop - rows.start
            values = uninitialised(len(self._used) * n_rows, self._dtype)
            for place, feature in enumerate(self._used):
                values[place * n_rows : (place + 1) * n_rows].copy_to_device(columns[feature][rows])
            self._score(values, n_rows, 1, out[rows])
        self._ending.finish(out)

    def _score(self, values: Any, feature_step: int, row_step: int, out: NDArray[Any]) -> None:
        if not self._n_blocks:
            out[:] = self._ending.base
            return
        bins = uninitialised((self._n_columns, len(out)), np.uint16)
        if self._n_columns:
            launch(bin_values, len(out), *self._searched, values, feature_step, row_step, bins)
        sums = uninitialised(out.shape, out.dtype)
        launch(add_blocks, len(out), *self._added, bins, sums)
        sums.copy_to_host(out)


def lookups(columns: NDArray[Any], used: NDArray[np.int64]) -> NDArray[Any]:
    """The bin columns (COLUMN[C]) as LOOKUP[C], given the features sent, in order."""
    bottom = np.maximum(columns["levels"] - 1, 0)[:, None]
    found = np.zeros(len(columns), LOOKUP)
    found["place"] = np.searchsorted(used, columns["feature"])
    found["categorical"] = columns["levels"] == 0
    for name in ("start", "last"):
        found[name] = np.take_along_axis(columns[name], bottom, axis=1)[:, 0]
    return found


def aligned(records: NDArray[Any]) -> NDArray[Any]:
    """The same records of int64 fields, marked as aligned: else each field is loaded byte by byte."""
    return records.view(np.dtype(records.dtype.descr, align=True))
