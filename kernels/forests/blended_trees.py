r"""Blended trees: a tree finds the leaves of many rows at once, from the bottom up, whatever their values.

A vector has a byte for each row. Start with the number of a leaf in all of them, and go up: at each split,
the rows that it sends to its other side take over what stands there. In this tree of five leaves

             x <= 3                      v = b
            /      \                     v = x > 1 ? c : v
       y <= 1      x <= 7                v = y <= 1 ? a : v
       /    \       /    \               v = x > 3 ? w : v      with   w = d
      a   x <= 1   d      e                                            w = x > 7 ? e : w
           /  \
          b    c

it takes four steps, each a comparison and a blend for all rows: at every split its larger side goes on, and
the smaller one is a leaf or a *chain* of its own that comes before, as ``w`` does. The steps hang on the
tree alone, never on a row: they are a program, and a row costs the number of splits over the number of rows
in a vector, however deep the tree and however many the features. So blends are faster than masks
(``interval_masks``) and walks (``interleaved``) where there are rows enough to fill vectors.

Values are binned first (see ``binning``). A *face* is what a step compares, a byte a row: how far its bin
lies above the lowest edge of a window of edges, WINDOW of them at most; a column with more has several
windows. Missing values are above all edges, or below, as the split has it. Of categories a face is 1 for
those that a set sends right. A step that takes over what is on the *left* compares a face turned round, 255
less it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.compiler import inlined, kernel
from kernels.forests.bin_counts import NO_TALLY, count_chunk
from kernels.forests.binning import COLUMN, Binning, bin_arrays, bin_columns
from kernels.forests.blend_programs import (
    CONSTANT_BYTES,
    FACE,
    GROUP,
    MAX_LEAVES,
    MISSING_HIGH,
    TREES_AT_ONCE,
    BlendPrograms,
)
from kernels.forests.ending import Ending, finish
from kernels.forests.forest import Forest
from kernels.forests.simd import BLEND_ROWS as ROWS
from kernels.forests.simd import VECTOR_BYTES, blends, item_at
from kernels.forests.tabulated import Tabulated
from kernels.parts import gather_parts, model_at, part

CHUNK_ROWS = 1024
CHUNK_BINS = 1 << 18
"""Rows, and their bins, that are binned at a time."""
SUMS_AT_ONCE = 8
"""Rows whose sums are interleaved, so that one's addition does not wait for the other's."""
PARTS = (
    "columns", "n_bins", "edges", "classes", "faces", "sets", "steps", "chains", "tree_step", "tree_chain",
    "groups", "tree_leaf", "leaf_value", "n_slots", "base", "scale", "bias", "divisor",
)  # fmt: skip
(
    COLUMNS, N_BINS, EDGES, CLASSES, FACES, SETS, STEPS, CHAINS, TREE_STEP, TREE_CHAIN,
    GROUPS, TREE_LEAF, LEAF_VALUE, N_SLOTS, BASE, SCALE, BIAS, DIVISOR,
) = range(len(PARTS))  # fmt: skip
MODEL_PARTS = len(PARTS) + len(NO_TALLY)
blend_one, blend_two, blend_four = blends(1), blends(2), blends(4)


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
    bins = room_for_bins(len(columns), len(out))
    looks, slots, leaves = room_for_blends(model)
    for start in range(0, len(out), bins.shape[1]):
        end = min(start + bins.shape[1], len(out))
        bin_columns(columns, 0, len(columns), edges, classes, X[start:end], 0, bins.T)
        count_chunk(model, len(PARTS), bins.T, end - start)
        write_margins(model, bins, looks, slots, leaves, out[:], start, end)  # a view is no longer borrowed


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
    bins = room_for_bins(len(columns), len(out))
    looks, slots, leaves = room_for_blends(model)
    for start in range(0, len(out), bins.shape[1]):
        end = min(start + bins.shape[1], len(out))
        bin_arrays(columns, edges, classes, addresses[:], example[:], start, end, bins.T)
        count_chunk(model, len(PARTS), bins.T, end - start)
        write_margins(model, bins, looks, slots, leaves, out[:], start, end)


@inlined
def room_for_bins(n_columns: int, n_rows: int) -> NDArray[np.uint16]:
    """uint16[C, rows of a chunk]."""
    largest = max(ROWS, min(CHUNK_ROWS, CHUNK_BINS // max(n_columns, 1)) // ROWS * ROWS)
    return np.empty((n_columns, max(1, min(n_rows, largest))), np.uint16)


@inlined
def room_for_blends(
    model: NDArray[np.int64],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """How faces look, [L * ROWS]; constants, then the chains' slots; leaf numbers of TREES_AT_ONCE trees."""
    looks = aligned_bytes(max(1, len(part(model, FACES, FACE))) * ROWS)
    slots = aligned_bytes(CONSTANT_BYTES + part(model, N_SLOTS, np.int64)[0] * ROWS)
    for leaf in range(MAX_LEAVES):
        slots[leaf * VECTOR_BYTES : (leaf + 1) * VECTOR_BYTES] = leaf
    return looks, slots, aligned_bytes(TREES_AT_ONCE * ROWS)


@inlined
def aligned_bytes(n_bytes: int) -> NDArray[np.uint8]:
    """uint8[n_bytes] that begin at a multiple of VECTOR_BYTES."""
    memory = np.empty(n_bytes + VECTOR_BYTES, np.uint8)
    skip = -memory.ctypes.data % VECTOR_BYTES
    return memory[skip : skip + n_bytes]


@kernel
def write_margins(
    model: NDArray[np.int64],
    bins: NDArray[np.uint16],
    looks: NDArray[np.uint8],
    slots: NDArray[np.uint8],
    leaves: NDArray[np.uint8],
    out: NDArray[Any],
    start: int,
    end: int,
) -> None:
    """Write the margins of the rows ``start`` to ``end`` of ``out``, whose bins these are."""
    faces = part(model, FACES, FACE)
    n_bins = part(model, N_BINS, np.int64)
    sets = part(model, SETS, np.uint8)
    base = part(model, BASE, out.dtype)
    for row in range(start, end):
        for k in range(out.shape[1]):
            out[row, k] = base[k]
    for first in range(start, end, ROWS):
        n_rows = min(ROWS, end - first)
        show_faces(faces, n_bins, sets, bins, first - start, n_rows, looks)
        add_groups(model, looks, slots, leaves, out, first, n_rows)
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
    start: int,
    n_rows: int,
    looks: NDArray[np.uint8],
) -> None:
    """Write to ``looks`` how each face looks for ``n_rows`` rows from ``start`` on, up to ROWS of them.

    All in 16 bits, so that a vector has as many rows as it can.
    """
    for f in range(len(faces)):
        c, kind = faces[f].column, faces[f].kind
        below, low = np.uint16(max(-faces[f].low, 0)), np.uint16(max(faces[f].low, 0))
        turned = np.uint8(255) if faces[f].turned else np.uint8(0)
        last = np.uint16(n_bins[c] - 1)
        seen, shown = bins[c, start : start + n_rows], looks[f * ROWS : f * ROWS + n_rows]
        if kind < 0:
            missing = np.uint16(255) if kind == MISSING_HIGH else np.uint16(0)
            for row in range(n_rows):
                bin_ = np.uint16(seen[row] + below)
                above = min(np.uint16(bin_ - min(bin_, low)), np.uint16(254))
                shown[row] = np.uint8(missing if seen[row] == last else above) ^ turned
        else:
            for row in range(n_rows):
                shown[row] = sets[kind + seen[row]] ^ turned


@kernel
def add_groups(
    model: NDArray[np.int64],
    looks: NDArray[np.uint8],
    slots: NDArray[np.uint8],
    leaves: NDArray[np.uint8],
    out: NDArray[Any],
    start: int,
    n_rows: int,
) -> None:
    """Add all trees to the ``n_rows`` rows of ``out`` from ``start`` on, whose faces these are."""
    steps = part(model, STEPS, np.uint64)
    chains = part(model, CHAINS, np.uint64)
    tree_step = part(model, TREE_STEP, np.int64)
    tree_chain = part(model, TREE_CHAIN, np.int64)
    groups = part(model, GROUPS, GROUP)
    tree_leaf = part(model, TREE_LEAF, np.int64)
    leaf_value = part(model, LEAF_VALUE, out.dtype)
    n_leaves = tree_leaf[len(tree_leaf) - 1]
    for g in range(len(groups)):
        first, end, output = groups[g].first_tree, groups[g].end_tree, groups[g].output
        for t in range(first, end):
            step, chain, end_chain = tree_step[t], tree_chain[t], tree_chain[t + 1]
            place = (t - first) * ROWS
            if n_rows > 2 * VECTOR_BYTES:
                blend_four(steps, step, chains, chain, end_chain, looks, slots, leaves, place)
            elif n_rows > VECTOR_BYTES:
                blend_two(steps, step, chains, chain, end_chain, looks, slots, leaves, place)
            else:
                blend_one(steps, step, chains, chain, end_chain, looks, slots, leaves, place)
        for v in range(groups[g].width):
            add_leaves(
                tree_leaf[first:end], leaf_value[v * n_leaves :], leaves, out, start, n_rows, output + v
            )


@kernel
def add_leaves(
    tree_leaf: NDArray[np.int64],
    leaf_value: NDArray[Any],
    leaves: NDArray[np.uint8],
    out: NDArray[Any],
    start: int,
    n_rows: int,
    k: int,
) -> None:
    """Add the values of the leaves of some trees to output ``k`` of rows, in tree order."""
    values, size = leaf_value.ctypes.data, leaf_value.itemsize
    whole = n_rows // SUMS_AT_ONCE * SUMS_AT_ONCE
    for r in range(0, whole, SUMS_AT_ONCE):
        row = start + r
        a, b, c, d = out[row, k], out[row + 1, k], out[row + 2, k], out[row + 3, k]
        e, f, g, h = out[row + 4, k], out[row + 5, k], out[row + 6, k], out[row + 7, k]
        place = np.uint64(r)
        for t in range(np.uint64(len(tree_leaf))):
            tree = values + tree_leaf[t] * size
            a += item_at(tree, leaves[place], leaf_value)
            b += item_at(tree, leaves[place + np.uint64(1)], leaf_value)
            c += item_at(tree, leaves[place + np.uint64(2)], leaf_value)
            d += item_at(tree, leaves[place + np.uint64(3)], leaf_value)
            e += item_at(tree, leaves[place + np.uint64(4)], leaf_value)
            f += item_at(tree, leaves[place + np.uint64(5)], leaf_value)
            g += item_at(tree, leaves[place + np.uint64(6)], leaf_value)
            h += item_at(tree, leaves[place + np.uint64(7)], leaf_value)
            place += np.uint64(ROWS)
        out[row, k], out[row + 1, k], out[row + 2, k], out[row + 3, k] = a, b, c, d
        out[row + 4, k], out[row + 5, k], out[row + 6, k], out[row + 7, k] = e, f, g, h
    for r in range(whole, n_rows):
        total = out[start + r, k]
        for t in range(len(tree_leaf)):
            total += leaf_value[tree_leaf[t] + leaves[t * ROWS + r]]
        out[start + r, k] = total


def _tabulated(forest: Forest, dtype: DTypeLike) -> Sequence[NDArray[Any]]:
    binning = Binning.of(forest, dtype)
    return gather_parts(PARTS, {}, binning, BlendPrograms.of(forest, binning), Ending.of(forest))


class BlendedTrees(Tabulated):
    """Scores a forest whose trees have at most MAX_LEAVES leaves; raises Unsuited for others."""

    name = "blended trees"
    part_names = PARTS
    tables_of = _tabulated
    rows_kernel = score_rows
    columns_kernel = score_columns
