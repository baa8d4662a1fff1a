"""The trees of an XGBoost document, from its arrays.

They lie there in plain sight, so treelite is not asked: it refuses category encoders, and reads past the
end of arrays that do not agree.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.errors import InvalidModel, UnsupportedModel
from engine.importers.trees import Tree, reachable

MAX_CATEGORY = 1 << 24
"""XGBoost's own limit: a float32 holds no larger code exactly."""
NODE_ARRAYS = ("left_children", "right_children", "split_indices", "split_conditions", "default_left")


def trees_of(booster: Mapping[str, Any], weights: Sequence[float] | None) -> list[Tree]:
    """All trees of a booster in its order; raises ``InvalidModel`` when their arrays do not agree.

    Args:
        booster: The document's ``model``.
        weights: Of dart, one factor for the leaves of each tree.
    """
    outputs = _array(booster, "tree_info", np.int64)
    factors = np.ones(len(outputs), np.float32) if weights is None else np.array(weights, np.float32)
    if not len(outputs) == len(factors) == len(booster["trees"]):
        raise InvalidModel(f"the XGBoost model lists {len(outputs)} trees but holds {len(booster['trees'])}")
    return [
        _tree(tree, number, int(output), factor)
        for number, (tree, output, factor) in enumerate(zip(booster["trees"], outputs, factors, strict=True))
    ]


def _tree(tree: Mapping[str, Any], number: int, output: int, factor: np.float32) -> Tree:
    left, right, feature = (_array(tree, key, np.int64) for key in NODE_ARRAYS[:3])
    conditions = _array(tree, "split_conditions", np.float32)
    default_left = _array(tree, "default_left", bool)
    if len({len(array) for array in (left, right, feature, conditions, default_left)}) != 1:
        raise InvalidModel(f"tree {number} of the XGBoost model has arrays of several lengths")
    inner = left != -1
    if (feature[inner] < 0).any():
        raise InvalidModel(f"tree {number} of the XGBoost model tests a feature before the first")
    return reachable(
        Tree(
            feature=np.where(inner, feature, -1),
            threshold=conditions.astype(np.float64),
            left=left,
            right=right,
            default_left=default_left,
            leaf_value=(_leaf_values(tree, inner, conditions) * factor).astype(np.float64),
            sets=_sets(tree, number, inner),
            output=output,
        ),
        number,
    )


def _leaf_values(
    tree: Mapping[str, Any], inner: NDArray[np.bool_], conditions: NDArray[np.float32]
) -> NDArray[np.float32]:
    """float32[n, V]: the condition of a leaf is its value; a vector leaf's right child is its place."""
    width = int(tree["tree_param"].get("size_leaf_vector", "1"))
    if width <= 1:
        return conditions[:, None]
    if "leaf_weights" not in tree:
        raise UnsupportedModel("vector leaves as XGBoost before 3.1 wrote them are not read; save it again")
    vectors = _array(tree, "leaf_weights", np.float32).reshape(-1, width)
    values = np.zeros((len(inner), width), np.float32)
    values[~inner] = vectors[_array(tree, "right_children", np.int64)[~inner]]
    return values


def _sets(tree: Mapping[str, Any], number: int, inner: NDArray[np.bool_]) -> dict[int, NDArray[np.int64]]:
    """By categorical node, the codes that go right."""
    if "split_type" not in tree:
        return {}
    kinds = _array(tree, "split_type", np.int64)
    if not np.isin(kinds, (0, 1)).all():
        raise InvalidModel(f"tree {number} of the XGBoost model has a split of an unknown type")
    categorical = np.flatnonzero(inner & (kinds == 1))
    nodes, begin, size, codes = (
        _array(tree, f"categories{part}", np.int64) for part in ("_nodes", "_segments", "_sizes", "")
    )
    sets = {
        int(node): codes[start : start + length]
        for node, start, length in zip(nodes, begin, size, strict=True)
        if start >= 0 and length >= 0 and start + length <= len(codes)
    }
    if len(codes) and (codes.min() < 0 or codes.max() >= MAX_CATEGORY):
        raise InvalidModel(f"tree {number} of the XGBoost model splits on a category that cannot be")
    if not sets.keys() >= {*categorical.tolist()}:
        raise InvalidModel(f"tree {number} of the XGBoost model has a categorical split without categories")
    return {int(node): sets[int(node)] for node in categorical}


def _array(values: Mapping[str, Any], key: str, dtype: DTypeLike) -> NDArray[Any]:
    """A flat array of the document; UBJ gives bytes for small unsigned ones."""
    found = values[key]
    array = np.array(list(found) if isinstance(found, bytes) else found)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "biuf"):
        raise InvalidModel(f"'{key}' of the XGBoost model is no list of numbers")
    return array.astype(dtype)
