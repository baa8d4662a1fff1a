"""The CUDA twin of the plain forest kernel: one thread walks every tree for one row.

Same nodes, same test, same order of sums, so the same bits. The test is written out once more, as a
CUDA device function can be compiled only where there is a device. Features lie feature by feature on
the device, so that a warp's loads are coalesced.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from kernels.forests.ending import Ending
from kernels.forests.forest import CATEGORICAL, DEFAULT_LEFT, LESS, SET_RIGHT, Forest
from kernels.forests.traversal import TINY, pack_nodes
from kernels.gpu.device import chunks, launch, to_device


def add_trees(
    nodes: NDArray[Any],
    tree_start: NDArray[np.int64],
    set_words: NDArray[np.uint32],
    leaf_value: NDArray[Any],
    tree_output: NDArray[np.int32],
    flush_tiny: bool,
    columns: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """The twin of ``traversal.add_trees`` with ``columns`` float32 or float64[F, n] in place of rows."""
    row = cuda.grid(1)
    if row < out.shape[0]:
        for tree in range(len(tree_output)):
            start = tree_start[tree]
            place = start
            while nodes[place]["feature"] >= 0:
                node = nodes[place]
                x = np.float64(columns[node["feature"], row])
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
            for v in range(leaf_value.shape[1]):
                out[row, tree_output[tree] + v] += leaf_value[place, v]


class GpuTraversal:
    """Scores any forest on a GPU; rows travel there and margins back."""

    name = "traversal (CUDA)"

    def __init__(self, forest: Forest) -> None:
        self._ending = Ending.of(forest)
        leaf_value = forest.leaf_value.astype(self._ending.base.dtype)
        arrays = (pack_nodes(forest), forest.tree_start, forest.set_words, leaf_value, forest.tree_output)
        self._n_trees = forest.n_trees
        self._trees = (*map(to_device, arrays), forest.flush_tiny)

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the margins of ``X`` (float32 or float64[n, F]) to ``out`` (C-order [n, K])."""
        for rows in chunks(len(out), X.shape[1]):
            self._score(np.ascontiguousarray(X[rows].T), out[rows])
        self._ending.finish(out)

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for ``F`` columns of ``n`` values."""
        for rows in chunks(len(out), len(columns)):
            self._score(np.stack([column[rows] for column in columns]), out[rows])
        self._ending.finish(out)

    def _score(self, columns: NDArray[Any], out: NDArray[Any]) -> None:
        out[:] = self._ending.base
        if self._n_trees:
            sums = to_device(out)
            launch(add_trees, len(out), *self._trees, to_device(columns), sums)
            sums.copy_to_host(out)
