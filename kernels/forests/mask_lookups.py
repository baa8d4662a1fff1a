"""What is looked up for a row in each block of trees: by column and bin, which leaves are left."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import kernel
from kernels.forests.binning import Binning, Unsuited
from kernels.forests.forest import DEFAULT_LEFT, SET_RIGHT, Forest
from kernels.forests.simd import ROW_BYTES

ROW_WORDS = ROW_BYTES // 8
NOTHING_STRUCK = np.full((1, ROW_WORDS), ~np.uint64(0))
"""A mask row that strikes out nothing."""
MAX_MASKS = 1 << 24
"""Mask rows of a forest, 2 GiB: beyond, walking the trees is better."""
MAX_LOCAL = 1 << 26
"""Items of ``local`` and of ``by_bin``, 128 MiB each: likewise."""
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
class Lookup:
    """What a block looks up by one column.

    Attributes:
        block: The block's number.
        column: The column's.
        numbers: By bin, the mask row: integers.
        masks: uint64[rows, ROW_WORDS], set bits being leaves still possible.
    """

    block: int
    column: int
    numbers: NDArray[Any]
    masks: NDArray[np.uint64]


def lookups_of(
    forest: Forest,
    binning: Binning,
    struck: NDArray[np.uint64],
    tree_block: NDArray[np.int64],
    tree_bit: NDArray[np.int64],
) -> list[Lookup]:
    """Sorted by block and column.

    Args:
        forest: The forest.
        binning: Its bins.
        struck: As in ``LeafNumbers``.
        tree_block: int64[T]
        tree_bit: int64[T], where the tree's lane begins in a mask row.

    Raises:
        Unsuited: They are too many.
    """
    splits = _splits(forest, binning, struck, tree_block, tree_bit)
    group_start = _group_starts(splits)
    leads = splits[group_start[:-1]]
    local_start = np.cumsum(np.append(0, binning.n_bins[leads["column"]]))
    if local_start[-1] > MAX_LOCAL:
        raise Unsuited
    sets, set_start = _flat_sets(binning)
    numbers, n_masks = number_masks(splits, group_start, local_start, sets, set_start)
    mask_start = np.cumsum(np.append(0, n_masks))
    if mask_start[-1] > MAX_MASKS:
        raise Unsuited
    masks = np.full((mask_start[-1], ROW_WORDS), ~np.uint64(0))
    strike_out(splits, group_start, local_start, numbers, sets, set_start, mask_start, masks)
    return [
        Lookup(int(lead["block"]), int(lead["column"]), numbers[first:end], masks[first_mask:end_mask])
        for lead, (first, end), (first_mask, end_mask) in zip(
            leads, itertools.pairwise(local_start), itertools.pairwise(mask_start), strict=True
        )
    ]


def _splits(
    forest: Forest,
    binning: Binning,
    struck: NDArray[np.uint64],
    tree_block: NDArray[np.int64],
    tree_bit: NDArray[np.int64],
) -> NDArray[Any]:
    """All inner nodes that strike out something as SPLIT, by block, column and edge."""
    nodes = np.flatnonzero(struck)
    tree = np.searchsorted(forest.tree_start, nodes, side="right") - 1
    splits = np.zeros(len(nodes), SPLIT)
    splits["struck"] = struck[nodes]
    splits["first_bit"] = tree_bit[tree]
    splits["block"] = tree_block[tree]
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
