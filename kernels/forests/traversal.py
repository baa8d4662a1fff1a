"""The plain forest kernel: walk every tree for every row. Any forest, any machine, no tables.

The faster kernels are chosen over it where they apply; it stays as the one that is obviously right.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import kernel
from kernels.forests.ending import Ending
from kernels.forests.forest import CATEGORICAL, DEFAULT_LEFT, LESS, SET_RIGHT, Forest

TINY = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold: with ``flush_tiny``, values up to it in magnitude are 0."""
TILE_ROWS = 1024
NODE = np.dtype(
    [
        ("threshold", np.float64),
        ("feature", np.int32),
        ("left", np.int32),
        ("right", np.int32),
        ("first_word", np.int32),
        ("end_word", np.int32),
        ("rule", np.uint8),
    ]
)
"""One node; ``first_word`` and ``end_word`` delimit its set among all ``set_words``."""


@kernel
def in_set(x: float, first_word: int, end_word: int, set_words: NDArray[np.uint32]) -> bool:
    """Whether category code ``x`` (not NaN) is in the set of the words ``first_word`` to ``end_word``."""
    if not -1.0 < x < 32.0 * (end_word - first_word):
        return False
    code = np.int64(x)
    word = np.int64(set_words[first_word + (code >> 5)])
    return bool((word >> (code & 31)) & 1)


@kernel
def goes_left(node: Any, set_words: NDArray[np.uint32], flush_tiny: bool, x: float) -> bool:
    """Whether a row with value ``x`` (float64) goes left at ``node`` (a ``NODE``), by ``Forest``'s rules."""
    if np.isnan(x):
        return bool(node.rule & DEFAULT_LEFT)
    if node.rule & CATEGORICAL:
        return bool(in_set(x, node.first_word, node.end_word, set_words) != bool(node.rule & SET_RIGHT))
    if flush_tiny and abs(x) <= TINY:
        x = 0.0
    if node.rule & LESS:
        return bool(x < node.threshold)
    return bool(x <= node.threshold)


@kernel
def add_trees(
    nodes: NDArray[Any],
    tree_start: NDArray[np.int64],
    set_words: NDArray[np.uint32],
    leaf_value: NDArray[Any],
    tree_output: NDArray[np.int32],
    flush_tiny: bool,
    X: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Add every tree's leaf to ``out``, tree after tree.

    Args:
        nodes: NODE[N].
        tree_start: int64[T + 1], as in ``Forest``.
        set_words: uint32[W], as in ``Forest``.
        leaf_value: [N, V], as in ``Forest``, in ``out``'s type.
        tree_output: int32[T], as in ``Forest``.
        flush_tiny: As in ``Forest``.
        X: float32 or float64[n, F]; NaN is missing.
        out: [n, K], float32 or float64: the sums so far.
    """
    for row in range(X.shape[0]):
        for tree in range(len(tree_output)):
            start = tree_start[tree]
            node = start
            while nodes[node].feature >= 0:
                x = np.float64(X[row, nodes[node].feature])
                if goes_left(nodes[node], set_words, flush_tiny, x):
                    node = start + nodes[node].left
                else:
                    node = start + nodes[node].right
            for v in range(leaf_value.shape[1]):
                out[row, tree_output[tree] + v] += leaf_value[node, v]


class Traversal:
    """Scores any forest by walking its trees, one row after the other."""

    name = "traversal"

    def __init__(self, forest: Forest) -> None:
        self._ending = Ending.of(forest)
        self._n_features = forest.n_features
        self._trees = (
            pack_nodes(forest),
            forest.tree_start,
            forest.set_words,
            forest.leaf_value.astype(self._ending.base.dtype),
            forest.tree_output,
            forest.flush_tiny,
        )

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the margins of ``X`` (float32 or float64[n, F]) to ``out`` (C-order [n, K])."""
        out[:] = self._ending.base
        add_trees(*self._trees, X, out)
        self._ending.finish(out)

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for ``F`` columns of ``n`` values, copied to rows a tile at a time."""
        dtype = columns[0].dtype if columns else np.float64
        tile = np.empty((min(len(out), TILE_ROWS), self._n_features), dtype)
        for start in range(0, len(out), TILE_ROWS):
            end = min(start + TILE_ROWS, len(out))
            for feature, column in enumerate(columns):
                tile[: end - start, feature] = column[start:end]
            self.score_rows(tile[: end - start], out[start:end])


def pack_nodes(forest: Forest) -> NDArray[Any]:
    """The forest's nodes as records, NODE[N]."""
    nodes = np.zeros(len(forest.feature), NODE)
    for name in ("threshold", "feature", "left", "right", "rule"):
        nodes[name] = getattr(forest, name)
    categorical = forest.category_set >= 0
    sets = forest.category_set[categorical]
    nodes["first_word"][categorical] = forest.set_start[sets]
    nodes["end_word"][categorical] = forest.set_start[sets + 1]
    return nodes
