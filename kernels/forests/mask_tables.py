"""Build the tables of ``interval_masks``: which trees share a block, and what each interval strikes out."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import kernel
from kernels.forests.binning import Binning, Unsuited
from kernels.forests.ending import sum_dtype
from kernels.forests.forest import DEFAULT_LEFT, SET_RIGHT, Forest
from kernels.forests.leaf_numbers import LeafNumbers
from kernels.forests.simd import ROW_BYTES

LANES = (8, 16, 32, 64)
"""Bits a tree may have in a mask row."""
UNUSED_LEAVES = 256
"""Places before the first leaf, so that ``first_leaf`` may make up for the high bits of symmetric trees."""
ROW_WORDS = ROW_BYTES // 8
MAX_BLOCK_MASKS = 1 << 16
"""Mask rows of a block, so that ``local`` is uint16."""
MAX_MASKS = 1 << 24
"""Mask rows of a forest, 2 GiB: beyond, walking the trees is better."""
MAX_LOCAL = 1 << 26
"""Items of ``local`` and of ``by_bin``, 128 MiB each: likewise."""
BLOCK = np.dtype(
    [
        ("lane_bits", np.int64),
        ("leaf_stride", np.int64),
        ("first_mask", np.int64),
        ("first_pair", np.int64),
        ("end_pair", np.int64),
        ("first_run", np.int64),
        ("end_run", np.int64),
        ("symmetric", np.int64),
    ]
)
"""A block of trees: its lanes, how far the leaves of its trees lie apart, where its mask rows, pairs and
runs are, and whether its trees are symmetric (see ``leaf_numbers``)."""
RUN = np.dtype(
    [("first_lane", np.int64), ("end_lane", np.int64), ("output", np.int64), ("first_leaf", np.int64)]
)
"""Neighbouring trees of a block that add to one output (with vector leaves, to each output in turn). The
leaf numbers of the first one count from ``first_leaf``, those of the others ``leaf_stride`` further on."""
SPLIT = np.dtype(
    [
        ("struck", np.uint64),
        ("first_bit", np.int64),
        ("block", np.int64),
        ("column", np.int64),
        ("edge", np.int64),
        ("missing_left", np.bool_),
        ("set_right", np.bool_),
    ]
)
"""An inner node: the leaves it strikes out when false, and where its tree's lane begins in a mask row;
``column`` and ``edge`` as in ``Binning``."""


@dataclass(frozen=True, slots=True, eq=False)
class MaskTables:
    """A forest as interval masks. Plain arrays, so that processes may share them by mmap.

    Attributes:
        blocks: BLOCK[B].
        runs: RUN[R].
        masks: uint64[M, ROW_WORDS], aligned to a row; a set bit is a leaf still possible.
        pairs: uint32[P, 2]: a bin column the block uses, and the start of its part of ``local``.
        local: uint16[L], by bin the mask row, counted from the block's ``first_mask``.
        by_bin: uint16[bins, B], the same for single rows: all blocks' mask rows of a bin together.
        first_bin: uint32[C], the row of each column's bin 0 in ``by_bin``, times B.
        leaf_value: one per bit of all lanes and output of a leaf, in the type the forest sums in.
    """

    blocks: NDArray[Any]
    runs: NDArray[Any]
    masks: NDArray[np.uint64]
    pairs: NDArray[np.uint32]
    local: NDArray[np.uint16]
    by_bin: NDArray[np.uint16]
    first_bin: NDArray[np.uint32]
    leaf_value: NDArray[Any]

    @classmethod
    def of(cls, forest: Forest, binning: Binning) -> "MaskTables":
        """The tables of ``forest``; raises Unsuited if a tree has more than 64 leaves."""
        numbers = LeafNumbers.of(forest)
        layout = _Layout.of(forest, numbers)
        splits = _splits(forest, binning, layout, numbers.struck)
        group_start = _group_starts(splits)
        leads = splits[group_start[:-1]]
        local_start = np.cumsum(np.append(0, binning.n_bins[leads["column"]]))
        sets, set_start = _flat_sets(binning)
        if max(local_start[-1], binning.n_bins.sum() * len(layout.blocks)) > MAX_LOCAL:
            raise Unsuited
        local, n_masks = number_masks(splits, group_start, local_start, sets, set_start)
        mask_start = np.cumsum(np.append(0, n_masks))
        first_pair = np.searchsorted(leads["block"], np.arange(len(layout.blocks) + 1))
        first_mask = mask_start[first_pair]
        if mask_start[-1] > MAX_MASKS or np.diff(first_mask).max(initial=0) > MAX_BLOCK_MASKS:
            raise Unsuited
        masks = _aligned_ones(int(mask_start[-1]))
        strike_out(splits, group_start, local_start, local, sets, set_start, mask_start, masks)
        local += np.repeat(mask_start[:-1] - first_mask[leads["block"]], np.diff(local_start)).astype(
            np.uint16
        )
        layout.blocks["first_mask"] = first_mask[:-1]
        layout.blocks["first_pair"], layout.blocks["end_pair"] = first_pair[:-1], first_pair[1:]
        first_bin = np.cumsum(np.append(0, binning.n_bins))
        return cls(
            blocks=layout.blocks,
            runs=layout.runs,
            masks=masks,
            pairs=np.stack([leads["column"], local_start[:-1]], axis=1).astype(np.uint32),
            local=local,
            by_bin=_by_bin(leads, local, local_start, first_bin, len(layout.blocks)),
            first_bin=(first_bin[:-1] * len(layout.blocks)).astype(np.uint32),
            leaf_value=_leaf_table(forest, layout, numbers.leaf),
        )


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
            blocks.append((lane_bits, stride, 0, 0, 0, first_run, len(runs), numbers.symmetric))
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


def _splits(forest: Forest, binning: Binning, layout: _Layout, struck: NDArray[np.uint64]) -> NDArray[Any]:
    """All inner nodes that strike out something as SPLIT, by block, column and edge."""
    nodes = np.flatnonzero(struck)
    tree = np.searchsorted(forest.tree_start, nodes, side="right") - 1
    splits = np.zeros(len(nodes), SPLIT)
    splits["struck"] = struck[nodes]
    splits["first_bit"] = layout.tree_bit[tree]
    splits["block"] = layout.tree_block[tree]
    splits["column"] = binning.node_column[nodes]
    splits["edge"] = binning.node_edge[nodes]
    splits["missing_left"] = (forest.rule[nodes] & DEFAULT_LEFT) != 0
    splits["set_right"] = (forest.rule[nodes] & SET_RIGHT) != 0
    return splits[np.lexsort((splits["edge"], splits["column"], splits["block"]))]


def _group_starts(splits: NDArray[Any]) -> NDArray[np.int64]:
    """Where the splits of one block and one column start, then their number."""
    changes = (np.diff(splits["block"]) != 0) | (np.diff(splits["column"]) != 0)
    return np.concatenate([np.zeros(min(len(splits), 1), int), np.flatnonzero(changes) + 1, [len(splits)]])


def _flat_sets(binning: Binning) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """All ``sets_left`` in one array, and by column where its own begin (-1 at numeric columns)."""
    start = np.full(len(binning.columns), -1, np.int64)
    parts = [np.empty(0, np.bool_)]
    for column, members in binning.sets_left.items():
        start[column] = sum(len(part) for part in parts)
        parts.append(members.ravel())
    return np.concatenate(parts), start


@kernel
def goes_right(split: Any, bin_: int, n_bins: int, sets: NDArray[np.bool_], set_start: int) -> bool:
    """Whether ``bin_`` of ``n_bins`` goes right at ``split``; the last bin is NaN's."""
    if bin_ == n_bins - 1:
        return not split.missing_left
    if set_start < 0:
        return bin_ > split.edge
    return sets[set_start + split.edge * (n_bins - 1) + bin_] == split.set_right


@kernel
def number_masks(
    splits: NDArray[Any],
    group_start: NDArray[np.int64],
    local_start: NDArray[np.int64],
    sets: NDArray[np.bool_],
    set_start: NDArray[np.int64],
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Give bins that all splits of a group treat alike the same number.

    Args:
        splits: SPLIT[S], by group.
        group_start: int64[G + 1]
        local_start: int64[G + 1], where the bins of each group begin.
        sets: As ``_flat_sets``.
        set_start: As ``_flat_sets``.

    Returns:
        uint16, by group and bin the number; int64[G], how many numbers there are.
    """
    local = np.zeros(local_start[-1], np.uint16)
    n_masks = np.zeros(len(group_start) - 1, np.int64)
    for group in range(len(n_masks)):
        first, end = group_start[group], group_start[group + 1]
        numbers = local[local_start[group] : local_start[group + 1]]
        if set_start[splits[first].column] < 0:
            n_masks[group] = number_intervals(splits[first:end], numbers)
        else:
            n_masks[group] = number_classes(splits[first:end], sets, set_start[splits[first].column], numbers)
    return local, n_masks


@kernel
def number_intervals(splits: NDArray[Any], numbers: NDArray[np.uint16]) -> int:
    """Number the intervals between the edges of ``splits``, which are sorted; NaN has the last number."""
    number = 0
    place = 0
    for bin_ in range(len(numbers) - 1):
        if place < len(splits) and splits[place].edge < bin_:
            number += bin_ > 0
            while place < len(splits) and splits[place].edge < bin_:
                place += 1
        numbers[bin_] = number
    numbers[-1] = number + 1
    return number + 2


@kernel
def number_classes(
    splits: NDArray[Any], sets: NDArray[np.bool_], set_start: int, numbers: NDArray[np.uint16]
) -> int:
    """Number the classes of bins that ``splits`` do not tell apart, by splitting classes split by split."""
    n_bins = len(numbers)
    n_classes = 1
    for place in range(len(splits)):
        known = np.full(2 * n_classes, -1, np.int64)
        n_classes = 0
        for bin_ in range(n_bins):
            key = 2 * numbers[bin_] + goes_right(splits[place], bin_, n_bins, sets, set_start)
            if known[key] < 0:
                known[key] = n_classes
                n_classes += 1
            numbers[bin_] = known[key]
    return n_classes


@kernel
def strike_out(
    splits: NDArray[Any],
    group_start: NDArray[np.int64],
    local_start: NDArray[np.int64],
    local: NDArray[np.uint16],
    sets: NDArray[np.bool_],
    set_start: NDArray[np.int64],
    mask_start: NDArray[np.int64],
    masks: NDArray[np.uint64],
) -> None:
    """Clear in each mask row the leaves that its bins rule out.

    Args:
        splits: SPLIT[S], by group.
        group_start: int64[G + 1]
        local_start: int64[G + 1], where the bins of each group begin.
        local: The numbers that ``number_masks`` gave to bins.
        sets: As ``_flat_sets``.
        set_start: As ``_flat_sets``.
        mask_start: int64[G + 1], where the mask rows of each group begin.
        masks: uint64[M, ROW_WORDS], all ones.
    """
    for group in range(len(group_start) - 1):
        numbers = local[local_start[group] : local_start[group + 1]]
        seen = np.zeros(mask_start[group + 1] - mask_start[group], np.bool_)
        for bin_ in range(len(numbers)):
            number = numbers[bin_]
            if seen[number]:
                continue
            seen[number] = True
            for place in range(group_start[group], group_start[group + 1]):
                split = splits[place]
                if goes_right(split, bin_, len(numbers), sets, set_start[split.column]):
                    word, bit = split.first_bit >> 6, np.uint64(split.first_bit & 63)
                    masks[mask_start[group] + number, word] &= ~(split.struck << bit)


def _by_bin(
    leads: NDArray[Any],
    local: NDArray[np.uint16],
    local_start: NDArray[np.int64],
    first_bin: NDArray[np.int64],
    n_blocks: int,
) -> NDArray[np.uint16]:
    """``local`` with the blocks innermost; 0, never read, where a block does not use a column."""
    by_bin = np.zeros((first_bin[-1], n_blocks), np.uint16)
    for lead, start, end in zip(leads, local_start, local_start[1:], strict=False):
        first = first_bin[lead["column"]]
        by_bin[first : first + end - start, lead["block"]] = local[start:end]
    return by_bin


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
