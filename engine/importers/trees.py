"""Trees of any library as arrays, checked and joined into a ``Forest``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import InvalidModel
from kernels.forests.forest import CATEGORICAL, DEFAULT_LEFT, LESS, SET_RIGHT, Forest

MAX_OUTPUTS = 1 << 16
"""No model has more; a damaged file may say so."""


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """One binary tree of ``n`` nodes, root first.

    Attributes:
        feature: int[n], the column tested; negative at a leaf.
        threshold: float64[n], read at numeric inner nodes only.
        left, right: int[n], children, read at inner nodes only.
        default_left: bool[n], where NaN goes.
        leaf_value: float64[n] or float64[n, V], read at leaves only.
        sets: By categorical node, the codes in its set.
        output: The output it adds to.
    """

    feature: NDArray[np.integer]
    threshold: NDArray[np.float64]
    left: NDArray[np.integer]
    right: NDArray[np.integer]
    default_left: NDArray[np.bool_]
    leaf_value: NDArray[np.float64]
    sets: Mapping[int, NDArray[np.integer]] = field(default_factory=dict)
    output: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """How a library reads its trees; the words are those of ``Forest``."""

    less: bool = False
    set_right: bool = False
    single: bool = False
    average: bool = False
    flush_tiny: bool = False


def grow(
    trees: Sequence[Tree],
    rules: Rules,
    *,
    n_features: int,
    base: ArrayLike,
    scale: float = 1.0,
    bias: ArrayLike | None = None,
) -> Forest:
    """Join trees into a forest; raises ``InvalidModel`` for one that is no tree.

    Args:
        trees: In the order of the sum; all leaves scalar, or all of one length.
        rules: Shared by all nodes.
        n_features: Columns of the model.
        base: float64[n_outputs], what the sum starts from.
        scale: Factor of the sum.
        bias: float64[n_outputs], added after scaling; zeros if left out.
    """
    if np.size(base) > MAX_OUTPUTS:
        raise InvalidModel(f"the model has {np.size(base)} outputs, expected {MAX_OUTPUTS} at most")
    start = np.atleast_1d(np.asarray(base, dtype=np.float64))
    for number, tree in enumerate(trees):
        _check(tree, number, n_features=n_features, n_outputs=len(start))
    category_set, set_start, set_words = _sets(trees)
    inner = _join([tree.feature >= 0 for tree in trees], bool)
    categorical = category_set >= 0
    leaves = [tree.leaf_value.reshape(len(tree.feature), -1) for tree in trees]
    width = leaves[0].shape[1] if leaves else 1
    joined = np.concatenate([np.empty((0, width)), *leaves]).astype(np.float64)
    joined[inner] = 0.0
    return Forest(
        tree_start=np.cumsum([0, *(len(tree.feature) for tree in trees)], dtype=np.int64),
        feature=np.where(inner, _join([tree.feature for tree in trees], np.int32), np.int32(-1)),
        threshold=np.where(inner & ~categorical, _join([t.threshold for t in trees], np.float64), 0.0),
        left=np.where(inner, _join([tree.left for tree in trees], np.int32), np.int32(0)),
        right=np.where(inner, _join([tree.right for tree in trees], np.int32), np.int32(0)),
        rule=_rule(trees, rules, inner, categorical),
        category_set=category_set,
        set_start=set_start,
        set_words=set_words,
        leaf_value=joined,
        tree_output=np.array([tree.output for tree in trees], dtype=np.int32),
        base=start,
        bias=np.zeros_like(start) if bias is None else np.atleast_1d(np.asarray(bias, dtype=np.float64)),
        scale=float(scale),
        n_features=n_features,
        n_outputs=len(start),
        single=rules.single,
        average=rules.average,
        flush_tiny=rules.flush_tiny,
    )


def reachable(tree: Tree, number: int) -> Tree:
    """The tree without nodes that its root does not lead to, which pruning leaves behind."""
    n = len(tree.feature)
    place = np.full(n, -1, dtype=np.int64)
    level = np.zeros(min(n, 1), dtype=np.int64)
    order: list[NDArray[np.int64]] = []
    n_placed = 0
    while len(level):
        if (place[level] >= 0).any() or len(np.unique(level)) < len(level):
            raise InvalidModel(f"tree {number} of the model is no tree: a node has not exactly one parent")
        place[level] = n_placed + np.arange(len(level))
        order.append(level)
        n_placed += len(level)
        inner = level[tree.feature[level] >= 0]
        level = np.stack([tree.left[inner], tree.right[inner]], axis=1).ravel().astype(np.int64)
        if len(level) and (level.min() < 0 or level.max() >= n):
            raise InvalidModel(f"tree {number} of the model has {n} nodes but children outside of them")
    kept = np.concatenate([*order, np.empty(0, np.int64)])
    inner = tree.feature[kept] >= 0
    return replace(
        tree,
        feature=tree.feature[kept],
        threshold=tree.threshold[kept],
        left=place[np.where(inner, tree.left[kept], 0)],
        right=place[np.where(inner, tree.right[kept], 0)],
        default_left=tree.default_left[kept],
        leaf_value=tree.leaf_value[kept],
        sets={int(place[node]): codes for node, codes in tree.sets.items() if place[node] >= 0},
    )


def words(codes: NDArray[np.integer]) -> NDArray[np.uint32]:
    """A set of category codes as a bit set: code ``c`` is bit ``c % 32`` of word ``c // 32``."""
    bits = np.zeros(int(codes.max(initial=-1)) // 32 + 1, dtype=np.uint32)
    np.bitwise_or.at(bits, codes // 32, np.uint32(1) << (codes % 32).astype(np.uint32))
    return bits


def _join(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False)


def _check(tree: Tree, number: int, *, n_features: int, n_outputs: int) -> None:
    n = len(tree.feature)
    inner = tree.feature >= 0
    children = np.concatenate([tree.left[inner], tree.right[inner]]).astype(np.int64)
    if n == 0 or (len(children) and (children.min() < 1 or children.max() >= n)):
        raise InvalidModel(f"tree {number} of the model has {n} nodes but children outside of them")
    parents = np.bincount(children, minlength=n)
    if parents[0] != 0 or (parents[1:] != 1).any():
        raise InvalidModel(f"tree {number} of the model is no tree: a node has not exactly one parent")
    if inner.any() and tree.feature[inner].max() >= n_features:
        raise InvalidModel(f"tree {number} of the model tests a feature past its {n_features}")
    if not 0 <= tree.output < n_outputs:
        raise InvalidModel(f"tree {number} of the model adds to output {tree.output} of {n_outputs}")


def _sets(trees: Sequence[Tree]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.uint32]]:
    owners = [np.full(len(tree.feature), -1, dtype=np.int32) for tree in trees]
    bit_sets: list[NDArray[np.uint32]] = []
    for tree, owner in zip(trees, owners, strict=True):
        for node, codes in sorted(tree.sets.items()):
            owner[node] = len(bit_sets)
            bit_sets.append(words(codes))
    starts = np.cumsum([0, *(len(bits) for bits in bit_sets)], dtype=np.int64)
    joined = np.concatenate([np.empty(0, np.uint32), *bit_sets])
    return np.concatenate([np.empty(0, np.int32), *owners]), starts, joined


def _rule(
    trees: Sequence[Tree], rules: Rules, inner: NDArray[np.bool_], categorical: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    rule = np.where(_join([tree.default_left for tree in trees], bool), DEFAULT_LEFT, np.uint8(0))
    rule |= np.where(categorical, CATEGORICAL | (SET_RIGHT if rules.set_right else 0), np.uint8(0))
    rule |= np.where(~categorical, LESS if rules.less else np.uint8(0), np.uint8(0))
    return np.where(inner, rule, 0).astype(np.uint8)
