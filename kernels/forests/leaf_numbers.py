"""Number the leaves of small trees, and say what each split rules out when it sends a row right.

In general the leaves count from left to right and a split that is false strikes out the bits of its left
subtree, as ``interval_masks`` explains. *Symmetric* trees (CatBoost's: all splits of a level alike) need
no bit per leaf but one per level: a false split clears its level's bit, and what is left in the lane
*is* the leaf's number. 128 trees of depth 8 then fit where otherwise 16 of depth 6 would.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import kernel
from kernels.forests.forest import Forest

MAX_LEVELS = 8
"""Levels of a symmetric tree, so that a lane is a byte."""


@dataclass(frozen=True, slots=True, eq=False)
class LeafNumbers:
    """The leaves and splits of a forest as bits of a lane.

    Attributes:
        symmetric: A lane's value, not its lowest bit, is the number of the leaf.
        tree_leaves: int64[T], the leaf numbers each tree needs; the same for all if symmetric.
        leaf: int64[N], at leaves the number, from 0 to ``tree_leaves``.
        struck: uint64[N], at inner nodes the bits to clear if false; 0 if another split does it.
    """

    symmetric: bool
    tree_leaves: NDArray[np.int64]
    leaf: NDArray[np.int64]
    struck: NDArray[np.uint64]

    @classmethod
    def of(cls, forest: Forest) -> "LeafNumbers":
        """The shorter numbering that fits."""
        leaf, struck, depth = number_levels(
            forest.tree_start,
            forest.feature,
            forest.threshold,
            forest.left,
            forest.right,
            forest.rule,
            forest.category_set,
        )
        if depth.min(initial=0) >= 0:
            n_leaves = 1 << depth.max(initial=0)
            # A tree of fewer levels has ones in the bits it does not use.
            leaf += np.repeat(n_leaves - (1 << depth), np.diff(forest.tree_start))
            return cls(True, np.full(forest.n_trees, n_leaves, np.int64), leaf, struck)
        leaf, n_leaves = count_leaves(forest.tree_start, forest.feature, forest.left, forest.right)
        struck = np.zeros(len(leaf), np.uint64)
        inner = np.flatnonzero(forest.feature >= 0)
        start = forest.tree_start[np.searchsorted(forest.tree_start, inner, side="right") - 1]
        left = start + forest.left[inner]
        small = (n_leaves[start] <= 64).astype(np.uint64)  # what does not fit shall not shift by 64
        ones = (np.uint64(1) << (n_leaves[left].astype(np.uint64) * small)) - np.uint64(1)
        struck[inner] = ones << (leaf[left].astype(np.uint64) * small)
        return cls(False, n_leaves[forest.tree_start[:-1]], leaf, struck)


@kernel
def count_leaves(
    tree_start: NDArray[np.int64],
    feature: NDArray[np.int32],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By node, the number of its leftmost leaf within the tree and how many leaves it has below it.

    Args:
        tree_start: As in ``Forest``.
        feature: As in ``Forest``.
        left: As in ``Forest``.
        right: As in ``Forest``.
    """
    first_leaf = np.zeros(len(feature), np.int64)
    n_leaves = np.zeros(len(feature), np.int64)
    for tree in range(len(tree_start) - 1):
        start = tree_start[tree]
        waiting = [start]
        found = 0
        while len(waiting):
            node = waiting.pop()
            if node < 0:  # both subtrees are done
                n_leaves[~node] = found - first_leaf[~node]
                continue
            first_leaf[node] = found
            if feature[node] < 0:
                n_leaves[node] = 1
                found += 1
            else:
                waiting.append(~node)
                waiting.append(start + right[node])
                waiting.append(start + left[node])
    return first_leaf, n_leaves


@kernel
def number_levels(
    tree_start: NDArray[np.int64],
    feature: NDArray[np.int32],
    threshold: NDArray[np.float64],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    rule: NDArray[np.uint8],
    category_set: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """Number leaves by level bits: bit ``i`` is 1 for leaves to the left of level ``i``.

    Args:
        tree_start: This and the others as in ``Forest``.
        feature: As in ``Forest``.
        threshold: As in ``Forest``.
        left: As in ``Forest``.
        right: As in ``Forest``.
        rule: As in ``Forest``.
        category_set: As in ``Forest``.

    Returns:
        int64[N], the numbers at leaves; uint64[N], at the first split of each level its bit; int64[T],
        how many levels a tree has, -1 if it is not symmetric or has more than MAX_LEVELS.
    """
    number = np.zeros(len(feature), np.int64)
    struck = np.zeros(len(feature), np.uint64)
    depth = np.zeros(len(tree_start) - 1, np.int64)
    for tree in range(len(depth)):
        start = tree_start[tree]
        level_nodes = [start]
        level = 0
        while feature[level_nodes[0]] >= 0 and level < MAX_LEVELS:
            lead = level_nodes[0]
            struck[lead] = np.uint64(1) << np.uint64(level)
            next_nodes = [start]
            next_nodes.pop()
            for node in level_nodes:
                same = feature[node] == feature[lead] and threshold[node] == threshold[lead]
                if not (same and rule[node] == rule[lead] and category_set[node] == category_set[lead]):
                    level = MAX_LEVELS
                    break
                number[start + left[node]] = number[node] | (1 << level)
                number[start + right[node]] = number[node]
                next_nodes.append(start + left[node])
                next_nodes.append(start + right[node])
            if level < MAX_LEVELS:
                level_nodes = next_nodes
                level += 1
        depth[tree] = level
        for node in level_nodes:
            if feature[node] >= 0:
                depth[tree] = -1
    return number, struck, depth
