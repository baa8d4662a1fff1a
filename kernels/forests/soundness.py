"""Whether a forest is sound. Kernels check nothing, so arrays from outside are checked here, once."""

import numpy as np
from numpy.typing import NDArray

from kernels.forests.forest import CATEGORICAL, Forest

TYPES = {
    "tree_start": (np.int64, 1), "feature": (np.int32, 1), "threshold": (np.float64, 1),
    "left": (np.int32, 1), "right": (np.int32, 1), "rule": (np.uint8, 1), "category_set": (np.int32, 1),
    "set_start": (np.int64, 1), "set_words": (np.uint32, 1), "leaf_value": (np.float64, 2),
    "tree_output": (np.int32, 1),
    "base": (np.float64, 1), "bias": (np.float64, 1),
}  # fmt: skip
"""Type and number of dimensions of each array."""
NODE_ARRAYS = ("feature", "threshold", "left", "right", "rule", "category_set", "leaf_value")
SCALARS = {
    "scale": float,
    "n_features": int,
    "n_outputs": int,
    "single": bool,
    "average": bool,
    "flush_tiny": bool,
}


def fault(forest: Forest) -> str | None:
    """What is wrong with a forest, as a sentence; None if every kernel can walk it safely."""
    return _wrong_types(forest) or _wrong_sizes(forest) or _wrong_trees(forest) or _wrong_sets(forest)


def _wrong_types(forest: Forest) -> str | None:
    for name, (dtype, ndim) in TYPES.items():
        array = getattr(forest, name)
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != ndim:
            return f"'{name}' is no array of {np.dtype(dtype).name} in {ndim} dimensions"
    for name, kind in SCALARS.items():
        if type(getattr(forest, name)) is not kind:
            return f"'{name}' is no {kind.__name__}"
    return None


def _wrong_sizes(forest: Forest) -> str | None:
    n_nodes = len(forest.feature)
    for name in NODE_ARRAYS:
        if len(getattr(forest, name)) != n_nodes:
            return f"'{name}' has {len(getattr(forest, name))} entries for {n_nodes} nodes"
    if forest.n_features < 0 or forest.n_outputs < 1:
        return f"{forest.n_features} features and {forest.n_outputs} outputs"
    if len(forest.base) != forest.n_outputs or len(forest.bias) != forest.n_outputs:
        return f"'base' or 'bias' is not one number for each of {forest.n_outputs} outputs"
    if len(forest.tree_output) != len(forest.tree_start) - 1:
        return f"{len(forest.tree_output)} tree outputs for {len(forest.tree_start) - 1} trees"
    if forest.leaf_value.shape[1] not in (1, forest.n_outputs):
        return f"leaves of {forest.leaf_value.shape[1]} values for {forest.n_outputs} outputs"
    ends = forest.tree_output.astype(np.int64) + forest.leaf_value.shape[1]
    if (forest.tree_output < 0).any() or (ends > forest.n_outputs).any():
        return "a tree adds to an output that is not there"
    return None


def _wrong_trees(forest: Forest) -> str | None:
    start, n_nodes = forest.tree_start, len(forest.feature)
    if not len(start) or start[0] != 0 or start[-1] != n_nodes or (np.diff(start) < 1).any():
        return "'tree_start' does not cut the nodes into trees of at least one node"
    inner = forest.feature >= 0
    if inner.any() and forest.feature.max() >= forest.n_features:
        return f"a node tests feature {forest.feature.max()} of {forest.n_features}"
    tree = np.repeat(np.arange(len(start) - 1), np.diff(start))[inner]
    for side in (forest.left, forest.right):
        child = side[inner].astype(np.int64)
        if ((child < 1) | (child >= np.diff(start)[tree])).any():
            return "a child lies outside of its tree"
    parents = np.bincount(_children(forest, inner, tree), minlength=n_nodes)
    parents[start[:-1]] += 1
    return None if (parents == 1).all() else "a node has not exactly one parent"


def _children(forest: Forest, inner: NDArray[np.bool_], tree: NDArray[np.int64]) -> NDArray[np.int64]:
    first = forest.tree_start[tree]
    return np.concatenate([first + forest.left[inner], first + forest.right[inner]])


def _wrong_sets(forest: Forest) -> str | None:
    start = forest.set_start
    if not len(start) or start[0] != 0 or start[-1] != len(forest.set_words) or (np.diff(start) < 0).any():
        return "'set_start' does not cut the words into sets"
    categorical = (forest.feature >= 0) & ((forest.rule & CATEGORICAL) != 0)
    sets = forest.category_set[categorical]
    if ((sets < 0) | (sets >= len(start) - 1)).any():
        return "a categorical node has no set"
    return None
