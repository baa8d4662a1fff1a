"""The CUDA twin of the plain forest kernel: one thread walks every tree for one row.

Same nodes, same test, same order of sums, so the same bits. The test is written out once more, as a
CUDA device function can be compiled only where there is a device.
"""

from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import DTypeLike, NDArray

from kernels.forests.forest import CATEGORICAL, DEFAULT_LEFT, LESS, SET_RIGHT, Forest
from kernels.forests.traversal import TINY, pack_nodes
from kernels.gpu.device import aligned, launch, to_device
from kernels.gpu.staged_forest import StagedForest
from kernels.gpu.staging import Slot


def add_trees(
    nodes: NDArray[Any],
    n_trees: int,
    tree_start: NDArray[np.int64],
    set_words: NDArray[np.uint32],
    leaf_value: NDArray[Any],
    tree_output: NDArray[np.int32],
    flush_tiny: bool,
    base: NDArray[Any],
    values: NDArray[Any],
    feature_step: int,
    row_step: int,
    n_rows: int,
    out: NDArray[Any],
) -> None:
    """The twin of ``traversal.add_trees``, from ``base`` ([K]) on.

    A row's feature is at ``values[feature * feature_step + row * row_step]``, ``feature`` being a node's;
    ``out`` is [n_rows or more, K].
    """
    row = cuda.grid(1)
    if row < n_rows:
        for k in range(out.shape[1]):
            out[row, k] = base[k]
        held, total = 0, base[0]  # the output whose sum is not in ``out`` yet, and that sum
        for tree in range(n_trees):
            start = tree_start[tree]
            node = nodes[start]
            place = start
            while node["feature"] >= 0:
                x = np.float64(values[node["feature"] * feature_step + row * row_step])
                if x != x:
                    left = (node["rule"] & DEFAULT_LEFT) != 0
                elif node["rule"] & CATEGORICAL:
                    left = (node["rule"] & SET_RIGHT) != 0
                    if -1.0 < x < 32.0 * (node["end_word"] - node["first_word"]):
                        code = np.int64(x)
                        word = np.int64(set_words[node["first_word"] + (code >> 5)])
                        left = left != (((word >> (code & 31)) & 1) != 0)
                else:
                    if flush_tiny and abs(x) <= TINY:
                        x = np.float64(0.0)
                    left = x < node["threshold"] if node["rule"] & LESS else x <= node["threshold"]
                place = start + (node["left"] if left else node["right"])
                node = nodes[place]
            for v in range(leaf_value.shape[1]):
                k = tree_output[tree] + v
                if k != held:
                    out[row, held] = total
                    held, total = k, out[row, k]
                total += leaf_value[place, v]
        out[row, held] = total


class GpuTraversal(StagedForest):
    """Scores any forest on a GPU."""

    name = "traversal (CUDA)"

    def __init__(self, forest: Forest, dtype: DTypeLike) -> None:
        used = np.unique(forest.feature[forest.feature >= 0])
        super().__init__(forest, dtype, used)
        nodes = aligned(pack_nodes(forest))
        of_used = nodes.copy()
        inner = nodes["feature"] >= 0
        of_used["feature"][inner] = np.searchsorted(used, nodes["feature"][inner])
        self._nodes = {True: to_device(nodes), False: to_device(of_used)}
        base = self.ending.base
        leaf_value = forest.leaf_value.astype(base.dtype)
        arrays: list[NDArray[Any]] = [forest.tree_start, forest.set_words, leaf_value, forest.tree_output]
        self._trees = (forest.n_trees, *map(to_device, arrays), forest.flush_tiny, to_device(base))

    def add_trees(self, slot: Slot) -> None:
        """Start the kernel for the chunk of a slot."""
        n_rows, nodes = slot.n_rows, self._nodes[slot.by_rows]
        values = (slot.values, slot.feature_step, slot.row_step)
        launch(add_trees, n_rows, slot.stream, nodes, *self._trees, *values, n_rows, slot.sums)
