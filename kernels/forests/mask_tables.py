"""Build the tables of ``interval_masks``: which trees share a block, and what each interval strikes out."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.forests.binning import Binning, Unsuited
from kernels.forests.ending import sum_dtype
from kernels.forests.forest import Forest
from kernels.forests.joint_columns import as_array, choose_joints, joined
from kernels.forests.leaf_numbers import LeafNumbers
from kernels.forests.mask_lookups import MAX_LOCAL, NOTHING_STRUCK, ROW_WORDS, Lookup, lookups_of
from kernels.forests.simd import ROW_BYTES

LANES = (8, 16, 32, 64)
"""Bits a tree may have in a mask row."""
UNUSED_LEAVES = 256
"""Places before the first leaf, so that ``first_leaf`` may make up for the high bits of symmetric trees."""
MAX_BLOCK_MASKS = 1 << 16
"""Mask rows of a block, so that ``local`` is uint16."""
SPARSE = 2
"""A block that uses at most one in so many of the columns that any block uses looks up its own alone."""
BLOCK = np.dtype(
    [
        ("lane_bits", np.int64),
        ("leaf_stride", np.int64),
        ("first_mask", np.int64),
        ("first_pair", np.int64),
        ("end_pair", np.int64),
        ("first_own", np.int64),
        ("end_own", np.int64),
        ("first_run", np.int64),
        ("end_run", np.int64),
        ("symmetric", np.int64),
    ]
)
"""A block of trees: its lanes, how far the leaves of its trees lie apart, where its mask rows, pairs, own
columns and runs are, and whether its trees are symmetric (see ``leaf_numbers``)."""
RUN = np.dtype(
    [("first_lane", np.int64), ("end_lane", np.int64), ("output", np.int64), ("first_leaf", np.int64)]
)
"""Neighbouring trees of a block that add to one output (with vector leaves, to each output in turn). The
leaf numbers of the first one count from ``first_leaf``, those of the others ``leaf_stride`` further on."""


@dataclass(frozen=True, slots=True, eq=False)
class MaskTables:
    """A forest as interval masks. Plain arrays, so that processes may share them by mmap.

    Attributes:
        blocks: BLOCK[B].
        runs: RUN[R].
        masks: uint64[M, ROW_WORDS], aligned to a row; a set bit is a leaf still possible.
        joints: uint32[members, 3], as ``joint_columns.as_array``: columns of few bins, looked up together.
        pairs: uint32[P, 2]: a bin column the block uses, and the start of its part of ``local``.
        local: uint16[L], by bin the mask row, counted from the block's ``first_mask``.
        by_bin: uint16[bins, B], the same for single rows: all blocks' mask rows of a bin together, and for
            columns that a block does not use its row that strikes out nothing.
        columns_used: uint32[U], the bin columns that any block uses.
        own_columns: uint32[O], of blocks that use few of them the places of theirs in ``columns_used``.
        first_bin: uint32[C], the row of each column's bin 0 in ``by_bin``, times B.
        leaf_value: one per bit of all lanes and output of a leaf, in the type the forest sums in.
    """

    blocks: NDArray[Any]
    runs: NDArray[Any]
    masks: NDArray[np.uint64]
    joints: NDArray[np.uint32]
    pairs: NDArray[np.uint32]
    local: NDArray[np.uint16]
    by_bin: NDArray[np.uint16]
    columns_used: NDArray[np.uint32]
    own_columns: NDArray[np.uint32]
    first_bin: NDArray[np.uint32]
    leaf_value: NDArray[Any]

    @classmethod
    def of(cls, forest: Forest, binning: Binning) -> "MaskTables":
        """The tables of ``forest``; raises Unsuited if a tree has more than 64 leaves."""
        leaves = LeafNumbers.of(forest)
        layout = _Layout.of(forest, leaves)
        blocks, n_bins = layout.blocks, binning.n_bins
        lookups = lookups_of(forest, binning, leaves.struck, layout.tree_block, layout.tree_bit)
        joints = choose_joints(lookups, n_bins, len(blocks))
        lookups = joined(lookups, joints, n_bins)
        n_bins = np.append(n_bins, [np.prod(n_bins[list(joint)]) for joint in joints]).astype(np.int64)
        local_start = np.cumsum([0, *(len(lookup.numbers) for lookup in lookups)])
        if max(local_start[-1], n_bins.sum() * len(blocks)) > MAX_LOCAL:
            raise Unsuited
        masks, places, blocks["first_mask"] = _lay_out(lookups, len(blocks))
        bounds = np.searchsorted([lookup.block for lookup in lookups], np.arange(len(blocks) + 1))
        blocks["first_pair"], blocks["end_pair"] = bounds[:-1], bounds[1:]
        first_bin = np.cumsum(np.append(0, n_bins))
        by_bin = np.zeros((first_bin[-1], len(blocks)), np.uint16)
        for lookup, place in zip(lookups, places, strict=True):
            by_bin[first_bin[lookup.column] :][: len(place), lookup.block] = place
        columns = np.array([lookup.column for lookup in lookups], np.uint32)
        columns_used = np.unique(columns)
        own_columns = _own_columns(columns, columns_used, blocks)
        bounds = np.cumsum([0, *map(len, own_columns)])
        blocks["first_own"], blocks["end_own"] = bounds[:-1], bounds[1:]
        return cls(
            blocks=blocks,
            runs=layout.runs,
            masks=masks,
            joints=as_array(joints, binning.n_bins),
            pairs=np.stack([columns, local_start[:-1]], axis=1).astype(np.uint32),
            local=np.concatenate([np.empty(0, np.uint16), *places]),
            by_bin=by_bin,
            columns_used=columns_used,
            own_columns=np.concatenate([np.empty(0, np.uint32), *own_columns]),
            first_bin=(first_bin[:-1] * len(blocks)).astype(np.uint32),
            leaf_value=_leaf_table(forest, layout, leaves.leaf),
        )


def _own_columns(
    columns: NDArray[np.uint32], columns_used: NDArray[np.uint32], blocks: NDArray[Any]
) -> list[NDArray[np.uint32]]:
    """By block, the places of its columns in those that any block uses if they are few of them, else none."""
    own = []
    for first, end in blocks[["first_pair", "end_pair"]].tolist():
        is_sparse = (end - first) * SPARSE <= len(columns_used)
        own.append(
            np.searchsorted(columns_used, columns[first : end if is_sparse else first]).astype(np.uint32)
        )
    return own


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Where each tree is: its block, the first bit of its lane, its first leaf."""

    blocks: NDArray[Any]
    runs: NDArray[Any]
    tree_block: NDArray[np.int64]
    tree_bit: NDArray[np.int64]
    tree_leaf: NDArray[np.int64]
    n_leaf_places: int

    @classmethod
    def of(cls, forest: Forest, numbers: LeafNumbers) -> "_Layout":
        """Trees in order, but those of one output together; as many in a block as fit."""
        order = np.argsort(forest.tree_output, kind="stable")
        outputs = forest.tree_output[order]
        bounds = _block_bounds(numbers, order)
        n_leaf_places = UNUSED_LEAVES + sum((end - first) * stride for first, end, _, stride in bounds)
        tree_block, tree_bit, tree_leaf = (np.zeros(forest.n_trees, np.int64) for _ in range(3))
        blocks: list[tuple[int, ...]] = []
        runs: list[tuple[int, ...]] = []
        first_leaf = UNUSED_LEAVES
        for block, (first, end, lane_bits, stride) in enumerate(bounds):
            lanes = np.arange(end - first)
            trees = order[first:end]
            tree_block[trees] = block
            tree_bit[trees] = lanes * lane_bits
            tree_leaf[trees] = first_leaf + lanes * stride
            first_run = len(runs)
            cuts = [0, *(np.flatnonzero(np.diff(outputs[first:end])) + 1).tolist(), end - first]
            # The unused high bits of a symmetric tree's lane are ones.
            high_bits = (1 << lane_bits) - stride if numbers.symmetric else 0
            for a, b in itertools.pairwise(cuts):
                for v in range(forest.leaf_value.shape[1]):
                    place = v * n_leaf_places + first_leaf + a * stride - high_bits
                    runs.append((a, b, int(outputs[first + a]) + v, place))
            blocks.append((lane_bits, stride, 0, 0, 0, 0, 0, first_run, len(runs), numbers.symmetric))
            first_leaf += (end - first) * stride
        return cls(
            np.array(blocks, BLOCK), np.array(runs, RUN), tree_block, tree_bit, tree_leaf, n_leaf_places
        )


def _block_bounds(numbers: LeafNumbers, order: NDArray[np.int64]) -> list[tuple[int, int, int, int]]:
    """The first and end tree of each block, its lanes, and how far the leaves of its trees lie apart."""
    bounds = []
    tree_leaves = numbers.tree_leaves[order]
    first = 0
    while first < len(order):
        for lane_bits in LANES:
            end = min(first + ROW_BYTES * 8 // lane_bits, len(order))
            if numbers.symmetric or tree_leaves[first:end].max() <= lane_bits:
                break
        else:
            raise Unsuited
        stride = int(tree_leaves[first]) if numbers.symmetric else lane_bits
        bounds.append((first, end, lane_bits, stride))
        first = end
    return bounds


def _lay_out(
    lookups: Sequence[Lookup], n_blocks: int
) -> tuple[NDArray[np.uint64], list[NDArray[np.uint16]], NDArray[np.int64]]:
    """The mask rows of all blocks; by lookup and bin the row, counted from its block's; int64[B], those.

    Rows that strike out nothing are one row of each block, its first. Up to a quarter of lookups end there,
    so it stays in the cache.
    """
    rows, places, first_mask = [], [], np.zeros(n_blocks, np.int64)
    n_rows = 0
    for block, theirs in itertools.groupby(lookups, key=lambda lookup: lookup.block):
        first_mask[block] = n_rows
        rows.append(NOTHING_STRUCK)
        n_rows += 1
        for lookup in theirs:
            strikes = (lookup.masks != NOTHING_STRUCK).any(axis=1)
            place = np.where(strikes, n_rows - first_mask[block] + np.cumsum(strikes) - 1, 0)
            rows.append(lookup.masks[strikes])
            n_rows += len(rows[-1])
            if n_rows - first_mask[block] > MAX_BLOCK_MASKS:
                raise Unsuited
            places.append(place[lookup.numbers].astype(np.uint16))
    masks = _aligned_ones(n_rows)
    if rows:
        np.concatenate(rows, out=masks)
    return masks, places, first_mask


def _aligned_ones(n_rows: int) -> NDArray[np.uint64]:
    """uint64[n_rows, ROW_WORDS], all ones, from a multiple of ROW_BYTES: lines are fetched in pairs."""
    memory = np.full((n_rows + 1) * ROW_BYTES, 255, np.uint8)
    skip = -memory.ctypes.data % ROW_BYTES
    return memory[skip : skip + n_rows * ROW_BYTES].view(np.uint64).reshape(n_rows, ROW_WORDS)


def _leaf_table(forest: Forest, layout: _Layout, leaf: NDArray[np.int64]) -> NDArray[Any]:
    """The leaf values in the order of lanes and bits, output after output, 0 where a lane has no leaf."""
    nodes = np.flatnonzero(forest.feature < 0)
    tree = np.searchsorted(forest.tree_start, nodes, side="right") - 1
    table = np.zeros((forest.leaf_value.shape[1], layout.n_leaf_places), sum_dtype(forest))
    table[:, layout.tree_leaf[tree] + leaf[nodes]] = forest.leaf_value[nodes].T
    return table.ravel()
