"""The CUDA twin of interleaved traversal: the same nodes, one word each, walked by a thread for each row.

First a thread finds its row's bins, by bisection among the edges that the CPU searches 16 at a time, and
writes down how each *face* (see ``forests.interleaved``) looks for the row. Then it walks TREES_IN_TURN
trees at a time and adds up their leaves in tree order. The threads of a warp do so side by side: near a root
they read the same node, and the same face of neighbouring rows, so that a single load serves them all.
"""

from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import DTypeLike, NDArray

from kernels.forests.binning import Binning
from kernels.forests.forest import Forest
from kernels.forests.interleaved import (
    CHILD_SHIFT,
    FACE_SHIFT,
    MISSING_FIRST,
    MISSING_LAST,
    walk_tables,
)
from kernels.gpu.device import aligned, launch, to_device, uninitialised
from kernels.gpu.staged_forest import StagedForest
from kernels.gpu.staging import Slot

TREES_IN_TURN = 4
"""Walks that a thread takes step by step together: a small batch then waits less for memory."""
LOW_16 = np.uint64(0xFFFF)
LOOKUP = np.dtype(
    [("place", np.int64), ("categorical", np.int64), ("start", np.int64), ("last", np.int64)], align=True
)
"""How to bin a column: where among the features sent its own is; from ``edges[start]`` on are ``last - 1``
edges, ``last`` being NaN's bin, or from ``classes[start]`` on the bins of ``last`` codes, others and NaN."""


def show_faces(
    lookups: NDArray[Any],
    edges: NDArray[Any],
    classes: NDArray[np.uint16],
    n_faces: int,
    faces: NDArray[Any],
    sets: NDArray[np.uint8],
    values: NDArray[Any],
    feature_step: int,
    row_step: int,
    n_rows: int,
    looks: NDArray[np.uint16],
) -> None:
    """Write how each face looks for each row.

    Args:
        lookups: LOOKUP[C].
        edges: float32 or float64[E], as LOOKUP says.
        classes: uint16[K], as LOOKUP says.
        n_faces: How many faces there are, L.
        faces: FACE[L], those of a column together.
        sets: As FACE says.
        values: The features sent, of the type of ``edges``, flat; NaN is missing.
        feature_step: From a row's feature to the next one in ``values``.
        row_step: From a feature's row to the next one in ``values``.
        n_rows: How many there are.
        looks: uint16[L, n_rows or more].
    """
    row = cuda.grid(1)
    if row < n_rows:
        bin_ = missing = 0
        for f in range(n_faces):
            column, first = faces[f]["column"], faces[f]["first"]
            if f == 0 or column != faces[f - 1]["column"]:
                lookup = lookups[column]
                start, last = lookup["start"], lookup["last"]
                x = values[lookup["place"] * feature_step + row * row_step]
                missing = last
                if lookup["categorical"]:
                    code = last + 1
                    if x == x:
                        code = np.int64(x) if -1.0 < x < last else last
                    bin_ = classes[start + code]
                elif x != x:
                    bin_ = last
                else:
                    low, high = 0, last - 1
                    while low < high:
                        middle = (low + high) // 2
                        if edges[start + middle] < x:
                            low = middle + 1
                        else:
                            high = middle
                    bin_ = low
            if first == MISSING_LAST:
                looks[f, row] = bin_ + 1
            elif first == MISSING_FIRST:
                looks[f, row] = 0 if bin_ == missing else bin_ + 1
            else:
                looks[f, row] = sets[first + bin_]


def add_trees(
    n_trees: int,
    nodes: NDArray[np.uint64],
    roots: NDArray[np.uint32],
    tree_output: NDArray[np.int32],
    leaf_value: NDArray[Any],
    base: NDArray[Any],
    looks: NDArray[np.uint16],
    n_rows: int,
    out: NDArray[Any],
) -> None:
    """Write the sums of all trees, from ``base`` on.

    Args:
        n_trees: How many trees there are, T.
        nodes: uint64[N], as in ``forests.interleaved``.
        roots: uint32[T].
        tree_output: int32[T], the output of a tree, or its first one.
        leaf_value: [N, V], in the type of ``out``.
        base: [K], where the sums start.
        looks: uint16[L, n_rows or more], as ``show_faces`` writes them.
        n_rows: How many there are.
        out: [n_rows or more, K], float32 or float64.
    """
    row = cuda.grid(1)
    at = cuda.local.array(TREES_IN_TURN, np.int64)
    if row < n_rows:
        for k in range(out.shape[1]):
            out[row, k] = base[k]
        held, total = 0, base[0]  # the output whose sum is not in ``out`` yet, and that sum
        for first in range(0, n_trees, TREES_IN_TURN):
            for i in range(TREES_IN_TURN):
                at[i] = roots[min(first + i, n_trees - 1)]
            moved = True
            while moved:
                moved = False
                for i in range(TREES_IN_TURN):
                    node = nodes[at[i]]
                    look = looks[np.int64((node >> np.uint64(FACE_SHIFT)) & LOW_16), row]
                    to = np.int64(node >> np.uint64(CHILD_SHIFT)) + (look > (node & LOW_16))
                    moved |= to != at[i]
                    at[i] = to
            for i in range(TREES_IN_TURN):
                tree = first + i
                if tree < n_trees:
                    for v in range(leaf_value.shape[1]):
                        k = tree_output[tree] + v
                        if k != held:
                            out[row, held] = total
                            held, total = k, out[row, k]
                        total += leaf_value[at[i], v]
        out[row, held] = total


class GpuBinnedTraversal(StagedForest):
    """Scores a forest on a GPU; raises Unsuited for one that is too large for the tables."""

    name = "binned traversal (CUDA)"

    def __init__(self, forest: Forest, dtype: DTypeLike) -> None:
        binning = Binning.of(forest, dtype)
        tables = walk_tables(forest, binning)
        used = np.unique(binning.columns["feature"])
        n_faces = len(tables["faces"])
        super().__init__(
            forest,
            dtype,
            used,
            scratch=lambda capacity: uninitialised((max(1, n_faces), capacity), np.uint16),
        )
        self._lookups = {
            True: to_device(lookups(binning.columns, np.arange(forest.n_features))),
            False: to_device(lookups(binning.columns, used)),
        }
        shown = (aligned(tables["faces"]), tables["sets"])
        self._shown = (*map(to_device, (binning.edges, binning.classes)), n_faces, *map(to_device, shown))
        added = (
            *(tables[name] for name in ("nodes", "roots", "tree_output", "leaf_value")),
            self.ending.base,
        )
        self._added = (forest.n_trees, *map(to_device, added))

    def add_trees(self, slot: Slot) -> None:
        """Start both kernels for the chunk of a slot."""
        n_rows, stream, looks = slot.n_rows, slot.stream, slot.scratch
        values = (slot.values, slot.feature_step, slot.row_step)
        launch(show_faces, n_rows, stream, self._lookups[slot.by_rows], *self._shown, *values, n_rows, looks)
        launch(add_trees, n_rows, stream, *self._added, looks, n_rows, slot.sums)


def lookups(columns: NDArray[Any], used: NDArray[np.int64]) -> NDArray[Any]:
    """The bin columns (COLUMN[C]) as LOOKUP[C], given the features sent, in order."""
    bottom = np.maximum(columns["levels"], 1)[:, None] - 1
    found = np.zeros(len(columns), LOOKUP)
    found["place"] = np.searchsorted(used, columns["feature"])
    found["categorical"] = columns["levels"] == 0
    for name in ("start", "last"):
        found[name] = np.take_along_axis(columns[name], bottom, axis=1)[:, 0]
    return found
