"""Columns of few bins that are looked up together, where that takes fewer lookups and hardly more memory.

A flag has three bins, ``no``, ``yes`` and missing, and in a block of trees three mask rows; another column
may have four. Each costs a row a lookup in each block. Together they are one column of twelve bins

    bin of both = bin of the first * 4 + bin of the second

which is computed once a row, and whose mask rows are the ANDs of one of the three and one of the four.
"""

import bisect
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import kernel
from kernels.forests.mask_lookups import NOTHING_STRUCK, ROW_WORDS, Lookup

MOST_BINS = 1024
"""Of columns that are looked up together."""
MOST_ROWS = 20
"""So many more mask rows, 2.5 KiB, may a lookup that is spared cost. With 80, one row of a wide forest takes
1.1 times as long, for its tables leave the cache."""
FEWEST_SPARED = 2
"""Joint bins have to be computed, so one lookup less is not enough."""
Joint = tuple[int, ...]
"""Bin columns to look up together."""


@kernel
def join_bins(joints: NDArray[np.uint32], bins: NDArray[np.uint16], n_rows: int) -> None:
    """Write the bins of the joint columns behind those of the others.

    Args:
        joints: As ``as_array`` makes it, flat.
        bins: uint16[n_rows or more, C + J].
        n_rows: How many rows there are.
    """
    for m in range(0, len(joints), 3):
        joint, column, n_bins = np.uint64(joints[m]), np.uint64(joints[m + 1]), np.uint16(joints[m + 2])
        for row in range(np.uint64(n_rows)):
            bins[row, joint] = bins[row, joint] * n_bins + bins[row, column]


def as_array(joints: Sequence[Joint], n_bins: NDArray[np.int64]) -> NDArray[np.uint32]:
    """uint32[members, 3]: the joint column, a member, by what the bin so far is multiplied (0 at first)."""
    steps = [
        (len(n_bins) + number, column, n_bins[column] if place else 0)
        for number, joint in enumerate(joints)
        for place, column in enumerate(joint)
    ]
    return np.array(steps, np.uint32).reshape(-1, 3)


def choose_joints(lookups: Sequence[Lookup], n_bins: NDArray[np.int64], n_blocks: int) -> list[Joint]:
    """Which columns are worth it, those with the fewest mask rows first.

    Args:
        lookups: One of a block and a column at most.
        n_bins: int64[C]
        n_blocks: B.
    """
    n_masks = np.zeros((n_blocks, len(n_bins)), np.int64)
    for lookup in lookups:
        n_masks[lookup.block, lookup.column] = len(lookup.masks)
    waiting = sorted((_Candidate((c,), n, n_masks[:, c]) for c, n in enumerate(n_bins.tolist())), key=_size)
    chosen = []
    while waiting:
        one = waiting.pop(0)
        both = one.with_(waiting[0]) if waiting else None
        if both is not None:
            waiting.pop(0)
            bisect.insort(waiting, both, key=_size)
        elif len(one.columns) > 1:
            chosen.append(one.columns)
    return chosen


class _Candidate:
    """Columns as if they were one: their bins, and int64[B], their mask rows in each block, 0 if not used."""

    def __init__(self, columns: Joint, n_bins: int, n_masks: NDArray[np.int64]) -> None:
        self.columns = columns
        self.n_bins = n_bins
        self.n_masks = n_masks

    def with_(self, other: "_Candidate") -> "_Candidate | None":
        """Both as one, if that is worth it."""
        n_bins = self.n_bins * other.n_bins
        n_masks = np.maximum(self.n_masks, 1) * np.maximum(other.n_masks, 1)
        n_masks[(self.n_masks == 0) & (other.n_masks == 0)] = 0
        spared = np.count_nonzero((self.n_masks > 0) & (other.n_masks > 0))
        more = n_masks.sum() - self.n_masks.sum() - other.n_masks.sum()
        if n_bins > MOST_BINS or spared < FEWEST_SPARED or more > spared * MOST_ROWS:
            return None
        return _Candidate(self.columns + other.columns, n_bins, n_masks)


def _size(candidate: _Candidate) -> int:
    return int(candidate.n_masks.sum())


def joined(lookups: Sequence[Lookup], joints: Sequence[Joint], n_bins: NDArray[np.int64]) -> list[Lookup]:
    """The lookups by block and column; for those of a joint's columns, one by a column behind all others.

    Args:
        lookups: One of a block and a column at most.
        joints: Columns to look up together.
        n_bins: int64[C], without joint columns.
    """
    alone = {(lookup.block, lookup.column): lookup for lookup in lookups}
    together = []
    for number, joint in enumerate(joints):
        for block in sorted({block for block, column in alone if column in joint}):
            unused = (
                Lookup(block, column, np.zeros(n_bins[column], np.int64), NOTHING_STRUCK) for column in joint
            )
            members = [alone.pop((block, lookup.column), lookup) for lookup in unused]
            together.append(_product(block, len(n_bins) + number, members))
    return sorted([*alone.values(), *together], key=lambda lookup: (lookup.block, lookup.column))


def _product(block: int, column: int, members: Sequence[Lookup]) -> Lookup:
    numbers, masks = np.zeros(1, np.int64), NOTHING_STRUCK
    for member in members:
        numbers = (numbers[:, None] * len(member.masks) + member.numbers).ravel()
        masks = (masks[:, None] & member.masks).reshape(-1, ROW_WORDS)
    return Lookup(block, column, numbers, masks)
