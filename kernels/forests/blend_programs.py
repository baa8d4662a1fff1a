"""Build the programs of ``blended_trees``: the steps of each tree, and the faces that they compare."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import inlined, kernel
from kernels.forests.binning import Binning, Unsuited
from kernels.forests.ending import sum_dtype
from kernels.forests.forest import CATEGORICAL, DEFAULT_LEFT, SET_RIGHT, Forest
from kernels.forests.simd import BLEND_ROWS, VECTOR_BYTES

MAX_LEAVES = 256
"""Of a tree: a leaf's number is a byte."""
CONSTANT_BYTES = MAX_LEAVES * VECTOR_BYTES
"""A vector for each leaf number, where the slots begin."""
TREES_AT_ONCE = 32
"""Trees whose leaf numbers are known before their values are added."""
WINDOW = 254
"""Edges of one face: it looks like 0 to 254, and like 255 for missing values."""
MAX_FACES = 1 << 15
MISSING_HIGH, MISSING_LOW = -1, -2
FACE = np.dtype([("column", np.int64), ("kind", np.int64), ("low", np.int64), ("turned", np.int64)])
"""The bin column; MISSING_HIGH, MISSING_LOW, or where in ``sets`` its categories begin; the window's lowest
edge; whether it is turned round."""
GROUP = np.dtype(
    [("first_tree", np.int64), ("end_tree", np.int64), ("output", np.int64), ("width", np.int64)]
)
"""Up to TREES_AT_ONCE trees that add to one output, or each to ``width`` outputs in turn."""


@dataclass(frozen=True, slots=True, eq=False)
class BlendPrograms:
    """A forest as programs. Plain arrays, so that processes may share them by mmap.

    Trees are in order, but those of one output together.

    Attributes:
        faces: FACE[L].
        sets: uint8, as FACE says.
        steps: uint64[S], as ``simd.blends`` says.
        chains: uint64[C], as ``simd.blends`` says; a tree's last one leaves its leaf numbers.
        tree_step: int64[T + 1], where the trees' steps begin.
        tree_chain: int64[T + 1], where their chains do.
        groups: GROUP[G].
        tree_leaf: int64[T + 1], where their leaves do.
        leaf_value: one per leaf and output of a leaf, in the type the forest sums in.
        n_slots: int64[1], chains of a tree at most.
    """

    faces: NDArray[Any]
    sets: NDArray[np.uint8]
    steps: NDArray[np.uint64]
    chains: NDArray[np.uint64]
    tree_step: NDArray[np.int64]
    tree_chain: NDArray[np.int64]
    groups: NDArray[Any]
    tree_leaf: NDArray[np.int64]
    leaf_value: NDArray[Any]
    n_slots: NDArray[np.int64]

    @classmethod
    def of(cls, forest: Forest, binning: Binning) -> "BlendPrograms":
        """The programs of ``forest``; raises Unsuited if it has too large trees or too many faces."""
        leaf = forest.feature < 0
        before = np.append(0, np.cumsum(leaf))  # leaves before each node
        n_leaves = np.diff(before[forest.tree_start])
        if n_leaves.max(initial=0) > MAX_LEAVES:
            raise Unsuited
        order = np.argsort(forest.tree_output, kind="stable")
        tree_leaf = np.cumsum(np.append(0, n_leaves[order])).astype(np.int64)
        number = before[:-1] - np.repeat(before[forest.tree_start[:-1]], np.diff(forest.tree_start))
        main_right = larger_sides(forest.tree_start, forest.feature, forest.left, forest.right)
        faces, sets, node_face, node_edge = _faces(forest, binning, main_right)
        steps, chains, tree_step, tree_chain = programs_of(
            order, forest.tree_start, forest.feature, forest.left, forest.right, main_right, number,
            node_face, node_edge,
        )  # fmt: skip
        tree_of = np.repeat(np.argsort(order), np.diff(forest.tree_start))[leaf]
        leaf_value = np.zeros((forest.leaf_value.shape[1], tree_leaf[-1]), sum_dtype(forest))
        leaf_value[:, tree_leaf[tree_of] + number[leaf]] = forest.leaf_value[leaf].T
        return cls(
            faces=faces,
            sets=sets,
            steps=steps,
            chains=chains,
            tree_step=tree_step,
            tree_chain=tree_chain,
            groups=_groups(forest.tree_output[order], forest.leaf_value.shape[1]),
            tree_leaf=tree_leaf,
            leaf_value=leaf_value.ravel(),
            n_slots=np.array([np.diff(tree_chain).max(initial=1)], np.int64),
        )


def _groups(outputs: NDArray[np.int32], width: int) -> NDArray[Any]:
    changes = np.flatnonzero(np.diff(outputs)) + 1
    bounds = np.unique(
        np.concatenate([[0, len(outputs)], changes, np.arange(0, len(outputs), TREES_AT_ONCE)])
    )
    groups = [(first, end, outputs[first], width) for first, end in itertools.pairwise(bounds.astype(int))]
    return np.array(groups, GROUP)


def _faces(
    forest: Forest, binning: Binning, main_right: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """FACE[L], the ``sets`` they refer to, and by node its face and the edge that it is compared with."""
    inner = np.flatnonzero(forest.feature >= 0)
    rule, column = forest.rule[inner], binning.node_column[inner].astype(np.int64)
    categorical = (rule & CATEGORICAL) != 0
    missing_left = (rule & DEFAULT_LEFT) != 0
    set_right = categorical & ((rule & SET_RIGHT) != 0)
    turned = main_right[inner]
    edge = binning.node_edge[inner].astype(np.int64)
    low = np.where(categorical, edge, lowest_edges(column * 2 + missing_left, edge))
    n_lows = int(low.max(initial=0)) + 2  # from -1 on
    kinds = ((column * 2 + missing_left) * 2 + set_right) * 2 + turned
    _, one, node_face = np.unique(kinds * n_lows + low + 1, return_index=True, return_inverse=True)
    if len(one) > MAX_FACES:
        raise Unsuited
    faces = np.zeros(len(one), FACE)
    sets = [np.empty(0, np.uint8)]
    n_set_bins = 0
    for number, i in enumerate(one):
        kind = MISSING_LOW if missing_left[i] else MISSING_HIGH
        if categorical[i]:
            kind = n_set_bins
            rights = binning.sets_left[int(column[i])][edge[i]] == set_right[i]
            sets.append(np.append(rights, not missing_left[i]).astype(np.uint8))
            n_set_bins += len(sets[-1])
        faces[number] = column[i], kind, low[i], turned[i]
    above = np.where(categorical, 0, edge - low)
    face, compared = np.zeros((2, len(forest.feature)), np.int64)
    face[inner] = node_face
    compared[inner] = np.where(turned, WINDOW - above, above)
    return faces, np.concatenate(sets), face, compared


def lowest_edges(columns: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """By node the lowest edge of its window: of a column's edges so many as lie less than WINDOW above it."""
    lows = np.zeros_like(edges)
    for column in np.unique(columns):
        nodes = columns == column
        distinct, place = np.unique(edges[nodes], return_inverse=True)
        low_of = np.zeros_like(distinct)
        first = 0
        while first < len(distinct):
            end = np.searchsorted(distinct, distinct[first] + WINDOW)
            low_of[first:end] = distinct[first]
            first = end
        lows[nodes] = low_of[place]
    return lows


@kernel
def larger_sides(
    tree_start: NDArray[np.int64],
    feature: NDArray[np.int32],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """By node whether its right side has more splits than its left one.

    Args:
        tree_start: As in ``Forest``.
        feature: As in ``Forest``.
        left: As in ``Forest``.
        right: As in ``Forest``.
    """
    main_right = np.zeros(len(feature), np.bool_)
    n_splits = np.zeros(len(feature), np.int64)
    order = np.empty(len(feature), np.int64)
    for tree in range(len(tree_start) - 1):
        start = tree_start[tree]
        order[0], n_nodes = start, 1
        place = 0
        while place < n_nodes:
            node = order[place]
            if feature[node] >= 0:
                order[n_nodes] = start + left[node]
                order[n_nodes + 1] = start + right[node]
                n_nodes += 2
            place += 1
        for place in range(n_nodes - 1, -1, -1):
            node = order[place]
            if feature[node] >= 0:
                on_left, on_right = n_splits[start + left[node]], n_splits[start + right[node]]
                n_splits[node] = 1 + on_left + on_right
                main_right[node] = on_right > on_left
    return main_right


@kernel
def programs_of(
    order: NDArray[np.int64],
    tree_start: NDArray[np.int64],
    feature: NDArray[np.int32],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    main_right: NDArray[np.bool_],
    leaf_number: NDArray[np.int64],
    face: NDArray[np.int64],
    edge: NDArray[np.int64],
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """The steps and chains of all trees, and where each tree's begin.

    Args:
        order: int64[T], the trees as they are wanted.
        tree_start: As in ``Forest``.
        feature: As in ``Forest``.
        left: As in ``Forest``.
        right: As in ``Forest``.
        main_right: As ``larger_sides``.
        leaf_number: int64[N], of a leaf among those of its tree.
        face: int64[N], of a split.
        edge: int64[N], which its face is compared with.
    """
    n_splits = (feature >= 0).sum()
    steps, chains = np.empty(n_splits, np.uint64), np.empty(n_splits + len(order), np.uint64)
    tree_step, tree_chain = np.zeros(len(order) + 1, np.int64), np.zeros(len(order) + 1, np.int64)
    heads, path, slot = (
        np.empty(len(feature), np.int64),
        np.empty(len(feature), np.int64),
        np.zeros_like(face),
    )
    n_steps = n_chains = 0
    for place in range(len(order)):
        start = tree_start[order[place]]
        heads[0], n_heads, h = start, 1, 0
        while h < n_heads:  # a chain begins where a larger side ends; those beside it come later in the list
            node = heads[h]
            while feature[node] >= 0:
                main, other = start + left[node], start + right[node]
                if main_right[node]:
                    main, other = other, main
                if feature[other] >= 0:
                    slot[other] = n_heads
                    heads[n_heads] = other
                    n_heads += 1
                node = main
            h += 1
        for h in range(n_heads - 1, -1, -1):
            node, length = heads[h], 0
            while feature[node] >= 0:
                path[length] = node
                length += 1
                node = start + (right[node] if main_right[node] else left[node])
            chains[n_chains] = leaf_number[node] | slot_place(h) << 16 | length << 32
            n_chains += 1
            for i in range(length - 1, -1, -1):
                node = path[i]
                other = start + (left[node] if main_right[node] else right[node])
                if feature[other] >= 0:
                    operand, stride = slot_place(slot[other]), 1
                else:
                    operand, stride = leaf_number[other], 0
                steps[n_steps] = edge[node] | operand << 16 | stride << 32 | face[node] << 40
                n_steps += 1
        tree_step[place + 1], tree_chain[place + 1] = n_steps, n_chains
    return steps, chains[:n_chains].copy(), tree_step, tree_chain


@inlined
def slot_place(number: int) -> int:
    """Where a chain's slot is, in vectors."""
    return MAX_LEAVES + number * (BLEND_ROWS // VECTOR_BYTES)
