"""Interleaved traversal, for trees with too many leaves for masks: many walks at once, without branches.

A walk alone waits at each node for memory, and guesses where to go next. Here TOGETHER walks, of several
rows through one tree or of a few rows through several trees, take a step each in turn; they do not wait
for each other. Values are binned first (see ``binning``), so a node is one word, its two children are
neighbours, and a step is ``child + (bin > edge)``. A leaf is its own child.

A *face* is what a node compares with its edge: a bin column counted from 1 with missing values after
all others, the same with them before all others (a node that sends them left), or, for a set of
categories, 1 for bins that go right and 0 for bins that go left.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import DTypeLike, NDArray

from kernels.compiler import inlined, kernel
from kernels.forests.bin_counts import NO_TALLY, count_chunk
from kernels.forests.binning import COLUMN, Binning, Unsuited, bin_arrays, bin_columns, bin_row
from kernels.forests.ending import Ending, finish, sum_dtype
from kernels.forests.forest import CATEGORICAL, DEFAULT_LEFT, SET_RIGHT, Forest
from kernels.forests.simd import LEAF_EDGE, STACK_BYTES, pointer_at, stack_memory, walks
from kernels.forests.tabulated import Tabulated
from kernels.parts import gather_parts, model_at, part

TOGETHER = 16
"""Walks that take steps in turn. With 8 a row takes 1.02 to 1.3 times as long."""
LANES = 256
"""Walks of which leaves are known before their values are added."""
CHUNK_FACES = 1 << 16
"""Faces of the rows scored together, 128 KiB: they stay in cache while the trees pass by."""
EDGE_SHIFT, FACE_SHIFT, CHILD_SHIFT = 0, 16, 32
MAX_NODES = 1 << 31
MAX_FACES = 1 << 16
"""A node is uint64: edge, face (16 bits each), left child (32 bits; the right one follows it)."""
FACE = np.dtype([("column", np.int64), ("first", np.int64)])
"""The bin column of a face; where in ``sets`` its categories begin, or one of the following."""
MISSING_LAST, MISSING_FIRST = -1, -2
PARTS = (
    "columns", "n_bins", "edges", "classes", "faces", "sets", "nodes", "roots", "tree_output", "leaf_value",
    "base", "scale", "bias", "divisor",
)  # fmt: skip
(
    COLUMNS, N_BINS, EDGES, CLASSES, FACES, SETS, NODES, ROOTS, TREE_OUTPUT, LEAF_VALUE,
    BASE, SCALE, BIAS, DIVISOR,
) = range(len(PARTS))  # fmt: skip
MODEL_PARTS = len(PARTS) + len(NO_TALLY)
walk_together = walks(TOGETHER)


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
    bins, looks = scratch(stack_memory(), len(out), len(columns), len(part(model, FACES, FACE)))
    for start in range(0, len(out), len(bins)):
        end = min(start + len(bins), len(out))
        if end - start == 1:
            bin_row(columns, edges, classes, X[start], bins[0])
        else:
            bin_columns(columns, 0, len(columns), edges, classes, X[start:end], 0, bins)
        count_chunk(model, len(PARTS), bins, end - start)
        write_margins(model, bins, looks, out[:], start, end)  # a view is no longer borrowed


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
    bins, looks = scratch(stack_memory(), len(out), len(columns), len(part(model, FACES, FACE)))
    for start in range(0, len(out), len(bins)):
        end = min(start + len(bins), len(out))
        bin_arrays(columns, edges, classes, addresses[:], example[:], start, end, bins)
        count_chunk(model, len(PARTS), bins, end - start)
        write_margins(model, bins, looks, out[:], start, end)


@inlined
def scratch(
    stack: int, n_rows: int, n_columns: int, n_faces: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Room for the bins of a chunk of rows, and for how their faces look; on the stack if it fits there."""
    n_faces = max(n_faces, 1)  # a leaf looks at the first, too
    n_rows = max(1, min(n_rows, CHUNK_FACES // n_faces))
    n_bins = n_rows * n_columns
    if 2 * (n_bins + n_rows * n_faces) > STACK_BYTES:
        return np.empty((n_rows, n_columns), np.uint16), np.empty((n_rows, n_faces), np.uint16)
    bins = carray(pointer_at(stack), (n_rows, n_columns), np.uint16)
    return bins, carray(pointer_at(stack + 2 * n_bins), (n_rows, n_faces), np.uint16)


@kernel
def write_margins(
    model: NDArray[np.int64],
    bins: NDArray[np.uint16],
    looks: NDArray[np.uint16],
    out: NDArray[Any],
    start: int,
    end: int,
) -> None:
    """Write the margins of the rows ``start`` to ``end`` of ``out``, whose bins these are."""
    n_bins = part(model, N_BINS, np.int64)
    show_faces(part(model, FACES, FACE), n_bins, part(model, SETS, np.uint8), bins, end - start, looks)
    base = part(model, BASE, out.dtype)
    for row in range(start, end):
        for k in range(out.shape[1]):
            out[row, k] = base[k]
    add_trees(model, looks, out, start, end)
    bias = part(model, BIAS, out.dtype)
    divisor = part(model, DIVISOR, out.dtype)
    if len(bias) or len(divisor):
        finish(part(model, SCALE, out.dtype), bias, divisor, out[start:end])


@kernel
def show_faces(
    faces: NDArray[Any],
    n_bins: NDArray[np.int64],
    sets: NDArray[np.uint8],
    bins: NDArray[np.uint16],
    n_rows: int,
    looks: NDArray[np.uint16],
) -> None:
    """Write to ``looks`` how each face looks for each row."""
    for f in range(len(faces)):
        c, first = faces[f].column, faces[f].first
        missing = n_bins[c] - 1
        if first == MISSING_LAST:
            for row in range(n_rows):
                looks[row, f] = bins[row, c] + 1
        elif first == MISSING_FIRST:
            for row in range(n_rows):
                looks[row, f] = 0 if bins[row, c] == missing else bins[row, c] + 1
        else:
            for row in range(n_rows):
                looks[row, f] = sets[first + bins[row, c]]


@kernel
def add_trees(
    model: NDArray[np.int64], looks: NDArray[np.uint16], out: NDArray[Any], start: int, end: int
) -> None:
    """Add all trees to the rows ``start`` to ``end`` of ``out``, in tree order."""
    nodes = part(model, NODES, np.uint64)
    roots = part(model, ROOTS, np.uint32)
    tree_output = part(model, TREE_OUTPUT, np.int32)
    leaf_value = part(model, LEAF_VALUE, out.dtype)
    width = len(leaf_value) // max(1, len(nodes))
    n_faces = looks.shape[1]
    flat = looks.reshape(looks.size)
    stack = stack_memory()
    at = carray(pointer_at(stack), LANES, np.uint32)
    place = carray(pointer_at(stack + 4 * LANES), LANES, np.uint32)
    place[:] = 0
    tile_rows = min(end - start, LANES)
    n_together = LANES // tile_rows
    for tree in range(0, len(roots), n_together):
        last_tree = min(tree + n_together, len(roots))
        for tile in range(start, end, tile_rows):
            n_rows = min(tile_rows, end - tile)
            n_walks = 0
            for t in range(tree, last_tree):
                for row in range(n_rows):
                    at[n_walks] = roots[t]
                    place[n_walks] = (tile - start + row) * n_faces
                    n_walks += 1
            at[n_walks : -(-n_walks // TOGETHER) * TOGETHER] = roots[tree]  # some walks that nobody asks for
            for first_walk in range(0, n_walks, TOGETHER):
                walk_together(nodes, flat, place, at, first_walk)
            if n_rows == 1:
                add_leaves_of_row(tree_output[tree:last_tree], leaf_value, width, at, out, tile)
                continue
            for t in range(tree, last_tree):
                first = np.uint64((t - tree) * n_rows)
                for v in range(width):
                    k = np.uint64(tree_output[t] + v)
                    for row in range(np.uint64(n_rows)):
                        leaf = np.uint64(at[first + row]) * np.uint64(width) + np.uint64(v)
                        out[np.uint64(tile) + row, k] += leaf_value[leaf]


@kernel
def add_leaves_of_row(
    tree_output: NDArray[np.int32],
    leaf_value: NDArray[Any],
    width: int,
    at: NDArray[np.uint32],
    out: NDArray[Any],
    row: int,
) -> None:
    """Add the values of the leaves ``at`` which some trees ended to one row; a sum stays in a register."""
    for v in range(width):
        k = np.int64(tree_output[0])
        total = out[row, k + v]
        for t in range(np.uint64(len(tree_output))):
            if tree_output[t] != k:
                out[row, k + v] = total
                k = np.int64(tree_output[t])
                total = out[row, k + v]
            total += leaf_value[np.uint64(at[t]) * np.uint64(width) + np.uint64(v)]
        out[row, k + v] = total


def _tabulated(forest: Forest, dtype: DTypeLike) -> Sequence[NDArray[Any]]:
    binning = Binning.of(forest, dtype)
    return gather_parts(PARTS, walk_tables(forest, binning), binning, Ending.of(forest))


def walk_tables(forest: Forest, binning: Binning) -> dict[str, NDArray[Any]]:
    """What the walks need, by the names of PARTS; raises Unsuited if there is too much of it."""
    faces, sets, node_face = _faces(forest, binning)
    place = lay_out(forest.tree_start, forest.feature, forest.left, forest.right)
    leaf_value = np.zeros(forest.leaf_value.shape, sum_dtype(forest))
    leaf_value[place] = forest.leaf_value
    return {
        "faces": faces,
        "sets": sets,
        "nodes": _nodes(forest, binning, node_face, place),
        "roots": forest.tree_start[:-1].astype(np.uint32),
        "tree_output": forest.tree_output.astype(np.int32),
        "leaf_value": leaf_value,
    }


@kernel
def lay_out(
    tree_start: NDArray[np.int64],
    feature: NDArray[np.int32],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
) -> NDArray[np.int64]:
    """By node, its new place: trees where they were, level by level, siblings side by side.

    Args:
        tree_start: As in ``Forest``.
        feature: As in ``Forest``.
        left: As in ``Forest``.
        right: As in ``Forest``.
    """
    place = np.zeros(len(feature), np.int64)
    order = np.zeros(len(feature), np.int64)
    for tree in range(len(tree_start) - 1):
        start = tree_start[tree]
        order[start] = start
        end = start + 1
        for position in range(start, tree_start[tree + 1]):
            node = order[position]
            place[node] = position
            if position < end and feature[node] >= 0:
                order[end] = start + left[node]
                order[end + 1] = start + right[node]
                end += 2
    return place


def _faces(forest: Forest, binning: Binning) -> tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.int64]]:
    """FACE[L], the ``sets`` they refer to, and by node the face it compares (0 at leaves)."""
    inner = np.flatnonzero(forest.feature >= 0)
    rule = forest.rule[inner]
    categorical = (rule & CATEGORICAL) != 0
    row = np.where(categorical, binning.node_edge[inner], -1).astype(np.int64)
    missing_left = (rule & DEFAULT_LEFT) != 0
    set_right = categorical & ((rule & SET_RIGHT) != 0)
    n_rows = int(row.max(initial=-1)) + 2
    keys = ((binning.node_column[inner] * n_rows + row + 1) * 2 + missing_left) * 2 + set_right
    distinct, one, node_face = np.unique(keys, return_index=True, return_inverse=True)
    if len(distinct) > MAX_FACES:
        raise Unsuited
    faces = np.zeros(len(distinct), FACE)
    sets = [np.empty(0, np.uint8)]
    n_set_bins = 0
    for number, i in enumerate(one):
        column = int(binning.node_column[inner[i]])
        first = MISSING_FIRST if missing_left[i] else MISSING_LAST
        if categorical[i]:
            first = n_set_bins
            rights = binning.sets_left[column][row[i]] == set_right[i]
            sets.append(np.append(rights, not missing_left[i]).astype(np.uint8))
            n_set_bins += len(sets[-1])
        faces[number] = column, first
    face = np.zeros(len(forest.feature), np.int64)
    face[inner] = node_face
    return faces, np.concatenate(sets), face


def _nodes(
    forest: Forest, binning: Binning, node_face: NDArray[np.int64], place: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """uint64[N], the nodes at their new places; a leaf's child is itself."""
    if len(place) >= MAX_NODES:
        raise Unsuited
    inner = np.flatnonzero(forest.feature >= 0)
    start = forest.tree_start[np.searchsorted(forest.tree_start, inner, side="right") - 1]
    categorical = (forest.rule[inner] & CATEGORICAL) != 0
    child, face, edge = place.copy(), np.zeros_like(place), np.full_like(place, LEAF_EDGE)
    child[inner] = place[start + forest.left[inner]]
    face[inner] = node_face[inner]
    edge[inner] = np.where(categorical, 0, binning.node_edge[inner] + 1)
    nodes = np.zeros(len(place), np.uint64)
    nodes[place] = child << CHILD_SHIFT | face << FACE_SHIFT | edge << EDGE_SHIFT
    return nodes


class Interleaved(Tabulated):
    """Scores any forest of up to 2**31 nodes and 65,536 faces; raises Unsuited for larger ones."""

    name = "interleaved traversal"
    part_names = PARTS
    tables_of = _tabulated
    rows_kernel = score_rows
    columns_kernel = score_columns
