r"""Interval masks: a forest of small trees as tables of bit masks, looked up instead of walked.

After QuickScorer (Lucchese et al., SIGIR 2015): number a tree's leaves from left to right and give
each one a bit. A split that sends a row right rules out all leaves of its left subtree. Once all such
leaves are struck out, the lowest bit left is the leaf at which the row ends, in whatever order the
splits were looked at. QuickScorer loops over a row's false splits; here what they strike out is
tabulated by interval. Take this tree of five leaves, ``a`` to ``e``, bits 0 to 4:

             x <= 3                      split     if false, strikes out   leaving edcba
            /      \                     x <= 3    a b c                   11000
       y <= 1      x <= 7                y <= 1    a                       11110
       /    \       /    \               x <= 1    b                       11101
      a   x <= 1   d      e              x <= 7    d                       10111
           /  \
          b    c

The thresholds of ``x`` cut its axis into four intervals, that of ``y`` into two. In an interval it is
settled which splits are false, hence which leaves are left (written ``edcba``):

    x <= 1    11111          y <= 1    11111
    x <= 3    11101          y > 1     11110
    x <= 7    11000
    x > 7     10000

The row x = 2, y = 5 is scored by ``11101 & 11110 = 11100``, whose lowest bit is ``c``: two loads, one
AND, no branch. Missing values are one more interval, categories are intervals of codes, so neither
costs anything. Everything is done for many trees at once: a mask row holds ROW_BYTES of lanes of 8,
16, 32 or 64 bits, one tree each, and the trees in it make up a block. A block has a mask row per
feature and interval between *its own* thresholds; ``local`` leads from a row's bin among all
thresholds of the forest to the mask row. Features of few bins share a lookup (see ``joint_columns``).
A single row goes through the blocks with its bins at hand, so for it ``by_bin`` has what ``local`` says in
another order: all blocks' mask rows of one bin are neighbours. Many rows at once are mostly for
``blended_trees``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import DTypeLike, NDArray

from kernels.compiler import inlined, kernel
from kernels.forests.bin_counts import NO_TALLY, count_chunk
from kernels.forests.binning import COLUMN, Binning, bin_arrays, bin_columns, bin_row
from kernels.forests.ending import Ending, finish
from kernels.forests.forest import Forest
from kernels.forests.joint_columns import join_bins
from kernels.forests.mask_tables import BLOCK, RUN, MaskTables
from kernels.forests.simd import (
    ROW_BYTES,
    STACK_BYTES,
    exit_leaves,
    exit_leaves_of_row,
    item_at,
    pointer_at,
    stack_memory,
)
from kernels.forests.tabulated import Tabulated
from kernels.parts import gather_parts, model_at, part

CHUNK_ROWS = 1024
CHUNK_BINS = 1 << 18
"""Rows taken through all blocks at a time, and their bins, so that they and a block's masks stay in cache."""
GROUP_ROWS = 4
"""Rows whose sums are interleaved, so that one's addition does not wait for the other's."""
PARTS = (
    "columns", "edges", "classes", "joints", "blocks", "runs", "masks", "pairs", "local", "by_bin",
    "columns_used", "own_columns", "first_bin", "leaf_value", "base", "scale", "bias", "divisor",
)  # fmt: skip
(
    COLUMNS,
    EDGES,
    CLASSES,
    JOINTS,
    BLOCKS,
    RUNS,
    MASKS,
    PAIRS,
    LOCAL,
    BY_BIN,
    COLUMNS_USED,
    OWN_COLUMNS,
    FIRST_BIN,
    LEAF_VALUE,
    BASE,
    SCALE,
    BIAS,
    DIVISOR,
) = range(len(PARTS))
"""A model is int64[MODEL_PARTS, 2], the address and length of each array, then of a tally's two."""
MODEL_PARTS = len(PARTS) + len(NO_TALLY)
LEAF_BYTES = 2048
"""Leaf numbers found before their values are added, one byte each: 64 rows in a block of 32 trees. Then the
block's leaf values come into the cache once for all of them, and not between the masks."""

leaves_8 = exit_leaves(8, GROUP_ROWS)
leaves_16 = exit_leaves(16, GROUP_ROWS)
leaves_32 = exit_leaves(32, GROUP_ROWS)
leaves_64 = exit_leaves(64, GROUP_ROWS)
symmetric_leaves = exit_leaves(8, GROUP_ROWS, symmetric=True)
leaves_8_of_row = exit_leaves_of_row(8)
leaves_16_of_row = exit_leaves_of_row(16)
leaves_32_of_row = exit_leaves_of_row(32)
leaves_64_of_row = exit_leaves_of_row(64)
symmetric_leaves_of_row = exit_leaves_of_row(8, symmetric=True)


@kernel
def score_rows(address: int, X: NDArray[Any], out: NDArray[Any]) -> None:
    """Write the margins of ``X`` to ``out``.

    Args:
        address: Of the model, int64[MODEL_PARTS, 2], as PARTS says, then a tally.
        X: C-order float32 or float64[n, F]; NaN is missing.
        out: C-order [n, K] of the type of the sums.
    """
    model = model_at(address, MODEL_PARTS)
    columns = part(model, COLUMNS, COLUMN)
    edges = part(model, EDGES, X.dtype)
    classes = part(model, CLASSES, np.uint16)
    joints = part(model, JOINTS, np.uint32)
    bins, leaves, places = scratch(stack_memory(), len(out), len(part(model, FIRST_BIN, np.uint32)))
    for start in range(0, len(out), len(bins)):
        end = min(start + len(bins), len(out))
        if end - start == 1:
            bin_row(columns, edges, classes, X[start], bins[0])
        else:
            bin_columns(columns, 0, len(columns), edges, classes, X[start:end], 0, bins)
        join_bins(joints, bins, end - start)
        count_chunk(model, len(PARTS), bins, end - start)
        write_margins(model, bins, leaves, places, out[:], start, end)  # a view is no longer borrowed


@kernel
def score_columns(
    address: int, addresses: NDArray[np.int64], example: NDArray[Any], out: NDArray[Any]
) -> None:
    """Write the margins of the rows to ``out``.

    Args:
        address: Of the model, int64[MODEL_PARTS, 2], as PARTS says, then a tally.
        addresses: int64[F], of contiguous columns of n values.
        example: An array of the columns' type; its values do not matter.
        out: C-order [n, K] of the type of the sums.
    """
    model = model_at(address, MODEL_PARTS)
    columns = part(model, COLUMNS, COLUMN)
    edges = part(model, EDGES, example.dtype)
    classes = part(model, CLASSES, np.uint16)
    joints = part(model, JOINTS, np.uint32)
    bins, leaves, places = scratch(stack_memory(), len(out), len(part(model, FIRST_BIN, np.uint32)))
    for start in range(0, len(out), len(bins)):
        end = min(start + len(bins), len(out))
        bin_arrays(columns, edges, classes, addresses[:], example[:], start, end, bins)
        join_bins(joints, bins, end - start)
        count_chunk(model, len(PARTS), bins, end - start)
        write_margins(model, bins, leaves, places, out[:], start, end)


@inlined
def scratch(
    stack: int, n_rows: int, n_columns: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint32]]:
    """Room for the bins of a chunk, the leaves of some of its rows, and the ``places`` of a row.

    On the stack, at this address, where it fits: an allocation takes an eighth of the time of one row. Made
    of addresses, because a view of another type takes as long again.
    """
    chunk_rows = min(CHUNK_ROWS, max(CHUNK_BINS // max(n_columns, 1) // GROUP_ROWS, 1) * GROUP_ROWS)
    n_rows = max(min(n_rows, chunk_rows), 1)
    first_bin = LEAF_BYTES + 8 * n_columns
    leaves = carray(pointer_at(stack), LEAF_BYTES, np.uint8)
    if first_bin + 2 * n_rows * n_columns > STACK_BYTES:
        return np.empty((n_rows, n_columns), np.uint16), leaves, np.empty(2 * n_columns, np.uint32)
    places = carray(pointer_at(stack + LEAF_BYTES), 2 * n_columns, np.uint32)
    bins = carray(pointer_at(stack + first_bin), (n_rows, n_columns), np.uint16)
    return bins, leaves, places


@kernel
def write_margins(
    model: NDArray[np.int64],
    bins: NDArray[np.uint16],
    leaves: NDArray[np.uint8],
    places: NDArray[np.uint32],
    out: NDArray[Any],
    start: int,
    end: int,
) -> None:
    """Write the margins of the rows ``start`` to ``end`` of ``out``, whose bins these are."""
    base = part(model, BASE, out.dtype)
    for row in range(start, end):
        for k in range(out.shape[1]):
            out[row, k] = base[k]
    grouped = start + (end - start) // GROUP_ROWS * GROUP_ROWS
    if grouped > start:
        add_blocks(model, bins, leaves, out, start, grouped)
    for row in range(grouped, end):
        add_blocks_of_row(model, bins, row - start, leaves, places, out, row)
    scale = part(model, SCALE, out.dtype)
    bias = part(model, BIAS, out.dtype)
    divisor = part(model, DIVISOR, out.dtype)
    if len(bias) or len(divisor):
        finish(scale, bias, divisor, out[start:end])


@kernel
def add_blocks(
    model: NDArray[np.int64],
    bins: NDArray[np.uint16],
    leaves: NDArray[np.uint8],
    out: NDArray[Any],
    start: int,
    end: int,
) -> None:
    """Add all trees to a multiple of GROUP_ROWS rows, one block after the other."""
    blocks = part(model, BLOCKS, BLOCK)
    runs = part(model, RUNS, RUN)
    masks = part(model, MASKS, np.uint64)
    pairs = part(model, PAIRS, np.uint32)
    local = part(model, LOCAL, np.uint16)
    leaf_value = part(model, LEAF_VALUE, out.dtype)
    for b in range(len(blocks)):
        block = blocks[b]
        n_lanes = ROW_BYTES * 8 // block.lane_bits
        tile_rows = LEAF_BYTES // n_lanes
        for tile in range(start, end, tile_rows):
            end_row = min(tile + tile_rows, end)
            for row in range(tile, end_row, GROUP_ROWS):
                find_leaves(block, masks, pairs, local, bins, row - start, leaves[(row - tile) * n_lanes :])
            for r in range(block.first_run, block.end_run):
                for row in range(tile, end_row, GROUP_ROWS):
                    theirs = leaves[(row - tile) * n_lanes :]
                    add_run(runs[r], block.leaf_stride, leaf_value, theirs, n_lanes, out, row)


@kernel
def add_blocks_of_row(
    model: NDArray[np.int64],
    bins: NDArray[np.uint16],
    bin_row: int,
    leaves: NDArray[np.uint8],
    places: NDArray[np.uint32],
    out: NDArray[Any],
    row: int,
) -> None:
    """Add all trees to one row.

    Blocks that use most columns look up all that any block uses, and the others those of their own.
    """
    blocks = part(model, BLOCKS, BLOCK)
    runs = part(model, RUNS, RUN)
    masks = part(model, MASKS, np.uint64)
    by_bin = part(model, BY_BIN, np.uint16)
    columns_used = part(model, COLUMNS_USED, np.uint32)
    own_columns = part(model, OWN_COLUMNS, np.uint32)
    leaf_value = part(model, LEAF_VALUE, out.dtype)
    first_bin = part(model, FIRST_BIN, np.uint32)
    n_used = len(columns_used)
    for place in range(n_used):
        c = np.uint64(columns_used[place])
        places[place] = first_bin[c] + bins[bin_row, c] * np.uint32(len(blocks))
    for b in range(len(blocks)):
        block = blocks[b]
        first, end = 0, n_used
        if block.end_own > block.first_own:
            first, end = n_used, n_used + block.end_own - block.first_own
            for place in range(first, end):
                places[place] = places[np.uint64(own_columns[block.first_own + place - n_used])]
        find_leaves_of_row(block, masks, by_bin, places, first, end, b, leaves)
        for r in range(block.first_run, block.end_run):
            add_run_of_row(runs[r], block.leaf_stride, leaf_value, leaves, out, row)


@inlined
def find_leaves(
    block: Any,
    masks: NDArray[np.uint64],
    pairs: NDArray[np.uint32],
    local: NDArray[np.uint16],
    bins: NDArray[np.uint16],
    row: int,
    leaves: NDArray[np.uint8],
) -> None:
    """Write to ``leaves`` where GROUP_ROWS rows end in each tree of the block, one row after the other."""
    first, end = block.first_pair, block.end_pair
    if block.symmetric:
        symmetric_leaves(masks, block.first_mask, pairs, first, end, local, bins, row, leaves)
    elif block.lane_bits == 32:
        leaves_32(masks, block.first_mask, pairs, first, end, local, bins, row, leaves)
    elif block.lane_bits == 64:
        leaves_64(masks, block.first_mask, pairs, first, end, local, bins, row, leaves)
    elif block.lane_bits == 16:
        leaves_16(masks, block.first_mask, pairs, first, end, local, bins, row, leaves)
    else:
        leaves_8(masks, block.first_mask, pairs, first, end, local, bins, row, leaves)


@inlined
def find_leaves_of_row(
    block: Any,
    masks: NDArray[np.uint64],
    by_bin: NDArray[np.uint16],
    places: NDArray[np.uint32],
    start: int,
    end: int,
    number: int,
    leaves: NDArray[np.uint8],
) -> None:
    """The same for one row, by its ``places`` from ``start`` to ``end``; ``number`` is the block's."""
    if block.symmetric:
        symmetric_leaves_of_row(masks, block.first_mask, by_bin, places, start, end, number, leaves)
    elif block.lane_bits == 32:
        leaves_32_of_row(masks, block.first_mask, by_bin, places, start, end, number, leaves)
    elif block.lane_bits == 64:
        leaves_64_of_row(masks, block.first_mask, by_bin, places, start, end, number, leaves)
    elif block.lane_bits == 16:
        leaves_16_of_row(masks, block.first_mask, by_bin, places, start, end, number, leaves)
    else:
        leaves_8_of_row(masks, block.first_mask, by_bin, places, start, end, number, leaves)


@inlined
def add_run(
    run: Any,
    leaf_stride: int,
    leaf_value: NDArray[Any],
    leaves: NDArray[np.uint8],
    n_lanes: int,
    out: NDArray[Any],
    row: int,
) -> None:
    """Add a run's leaf values to GROUP_ROWS rows of ``out``, in tree order."""
    k = run.output
    a, b, c, d = out[row, k], out[row + 1, k], out[row + 2, k], out[row + 3, k]
    tree = leaf_value.ctypes.data + run.first_leaf * leaf_value.itemsize
    one = np.uint64(n_lanes)
    for lane in range(np.uint64(run.first_lane), np.uint64(run.end_lane)):
        a += item_at(tree, leaves[lane], leaf_value)
        b += item_at(tree, leaves[lane + one], leaf_value)
        c += item_at(tree, leaves[lane + np.uint64(2) * one], leaf_value)
        d += item_at(tree, leaves[lane + np.uint64(3) * one], leaf_value)
        tree += leaf_stride * leaf_value.itemsize
    out[row, k], out[row + 1, k], out[row + 2, k], out[row + 3, k] = a, b, c, d


@inlined
def add_run_of_row(
    run: Any,
    leaf_stride: int,
    leaf_value: NDArray[Any],
    leaves: NDArray[np.uint8],
    out: NDArray[Any],
    row: int,
) -> None:
    """Add a run's leaf values to one row of ``out``, in tree order."""
    total = out[row, run.output]
    place = np.uint64(run.first_leaf)
    for lane in range(np.uint64(run.first_lane), np.uint64(run.end_lane)):
        total += leaf_value[place + leaves[lane]]
        place += np.uint64(leaf_stride)
    out[row, run.output] = total


def _tabulated(forest: Forest, dtype: DTypeLike) -> Sequence[NDArray[Any]]:
    binning = Binning.of(forest, dtype)
    return gather_parts(PARTS, {}, binning, MaskTables.of(forest, binning), Ending.of(forest))


class IntervalMasks(Tabulated):
    """Scores a forest whose trees have at most 64 leaves; raises Unsuited for others."""

    name = "interval masks"
    part_names = PARTS
    tables_of = _tabulated
    rows_kernel = score_rows
    columns_kernel = score_columns

    @property
    def n_lookups(self) -> int:
        """How many mask rows are looked up for a row."""
        return len(self.arrays[PAIRS])

    @property
    def n_bytes(self) -> int:
        """How large all tables are."""
        return sum(array.nbytes for array in self.arrays)
