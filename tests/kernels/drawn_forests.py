"""Random forests and rows that look for trouble, for Hypothesis and for seeded tests."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

from kernels.forests.choice import ForestKernel
from kernels.forests.forest import CATEGORICAL, DEFAULT_LEFT, LESS, SET_RIGHT, Forest

SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-35, -1e-35, 2e-35, 5e-324, -1.0, -0.5, 1.0, 31.0, 32.0, 1e30]
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a random forest looks like."""

    n_trees: int = 5
    n_features: int = 4
    n_outputs: int = 1
    max_leaves: int = 8
    n_thresholds: int = 30
    categorical: float = 0.2
    less: bool = False
    flush_tiny: bool = False
    single: bool = False
    average: bool = False
    vector_leaves: bool = False
    scaled: bool = False
    chain: bool = False
    symmetric: bool = False


shapes = st.builds(
    Shape,
    n_trees=st.sampled_from([0, 1, 2, 5, 33, 70]),
    n_features=st.sampled_from([1, 4, 19]),
    n_outputs=st.sampled_from([1, 1, 3]),
    max_leaves=st.sampled_from([1, 2, 8, 16, 32, 64, 65, 150]),
    n_thresholds=st.sampled_from([1, 16, 30, 255, 256, 257, 1000]),
    categorical=st.sampled_from([0.0, 0.0, 0.3, 1.0]),
    less=st.booleans(),
    flush_tiny=st.booleans(),
    single=st.booleans(),
    average=st.booleans(),
    vector_leaves=st.booleans(),
    scaled=st.booleans(),
    chain=st.booleans(),
    symmetric=st.booleans(),
)


def random_forest(shape: Shape, random: Generator) -> Forest:
    """A forest of that shape. Trees differ in size; some are single leaves."""
    thresholds = random.choice(
        np.concatenate(
            [random.normal(size=shape.n_thresholds), [0.0, -0.0, 1e-35, -1e-35, 1e30, -1e30, np.inf]]
        ),
        size=shape.n_thresholds,
    )
    if shape.single:
        thresholds = thresholds.astype(np.float32).astype(np.float64)
    sets = [random.integers(0, 2**32, size=random.integers(1, 4), dtype=np.uint32) for _ in range(6)]
    trees = [random_tree(shape, thresholds, len(sets), random) for _ in range(shape.n_trees)]
    nodes = np.array([node for tree in trees for node in tree], dtype=NODE)
    width = shape.n_outputs if shape.vector_leaves else 1
    leaf_value = random.normal(size=(len(nodes), width)) * 10.0 ** random.integers(
        -3, 4, size=(len(nodes), width)
    )
    if shape.single:
        leaf_value = leaf_value.astype(np.float32).astype(np.float64)
    leaf_value[nodes["feature"] >= 0] = 0
    tree_output = np.arange(shape.n_trees) % shape.n_outputs
    return Forest(
        tree_start=np.cumsum([0] + [len(tree) for tree in trees], dtype=np.int64),
        feature=nodes["feature"].copy(),
        threshold=nodes["threshold"].copy(),
        left=nodes["left"].copy(),
        right=nodes["right"].copy(),
        rule=nodes["rule"].copy(),
        category_set=nodes["category_set"].copy(),
        set_start=np.cumsum([0] + [len(words) for words in sets], dtype=np.int64),
        set_words=np.concatenate(sets),
        leaf_value=leaf_value,
        tree_output=(tree_output * (width == 1)).astype(np.int32),
        base=random.normal(size=shape.n_outputs),
        bias=random.normal(size=shape.n_outputs) * shape.scaled,
        scale=0.7 if shape.scaled else 1.0,
        n_features=shape.n_features,
        n_outputs=shape.n_outputs,
        single=shape.single,
        average=shape.average,
        flush_tiny=shape.flush_tiny,
    )


NODE = np.dtype(
    [
        ("feature", np.int32),
        ("threshold", np.float64),
        ("left", np.int32),
        ("right", np.int32),
        ("rule", np.uint8),
        ("category_set", np.int32),
    ]
)
LEAF = (-1, 0.0, 0, 0, 0, -1)


def random_tree(shape: Shape, thresholds: NDArray[np.float64], n_sets: int, random: Generator) -> list[tuple]:
    """Nodes of one tree, grown by splitting random leaves (the newest one if ``chain``)."""
    if shape.symmetric:
        return symmetric_tree(shape, thresholds, n_sets, random)
    nodes: list[tuple] = [LEAF]
    leaves = [0]
    for _ in range(int(random.integers(0, shape.max_leaves))):
        node = leaves.pop(-1 if shape.chain else int(random.integers(len(leaves))))
        nodes[node] = random_split(shape, thresholds, n_sets, len(nodes), random)
        leaves += [len(nodes), len(nodes) + 1]
        nodes += [LEAF, LEAF]
    return nodes


def symmetric_tree(
    shape: Shape, thresholds: NDArray[np.float64], n_sets: int, random: Generator
) -> list[tuple]:
    """Nodes of a tree whose splits of one level are alike."""
    nodes: list[tuple] = [LEAF]
    level = [0]
    for _ in range(int(random.integers(0, shape.max_leaves.bit_length() + 2))):
        feature, threshold, _, _, rule, category_set = random_split(shape, thresholds, n_sets, 0, random)
        below = []
        for node in level:
            first = len(nodes)
            left, right = (first, first + 1) if random.random() < 0.5 else (first + 1, first)
            nodes[node] = (feature, threshold, left, right, rule, category_set)
            nodes += [LEAF, LEAF]
            below += [first, first + 1]
        level = below
    return nodes


def random_split(
    shape: Shape, thresholds: NDArray[np.float64], n_sets: int, child: int, random: Generator
) -> tuple[int, float, int, int, int, int]:
    children = (child, child + 1) if random.random() < 0.5 else (child + 1, child)
    default = DEFAULT_LEFT * (random.random() < 0.5)
    feature = int(random.integers(shape.n_features))
    if random.random() < shape.categorical:
        rule = CATEGORICAL | default | SET_RIGHT * (random.random() < 0.5)
        return (feature, 0.0, *children, int(rule), int(random.integers(n_sets)))
    return (feature, float(random.choice(thresholds)), *children, int(default | LESS * shape.less), -1)


def random_rows(forest: Forest, n_rows: int, dtype: DTypeLike, random: Generator) -> NDArray[np.floating]:
    """Rows at thresholds, one ulp beside them, at category codes, at special values and elsewhere."""
    at = forest.threshold.astype(dtype)
    infinity = np.array(np.inf, dtype)
    pools = [
        at,
        np.nextafter(at, infinity),
        np.nextafter(at, -infinity),
        SPECIAL.astype(dtype),
        random.integers(-3, 100, size=20).astype(dtype),
        random.normal(size=20).astype(dtype),
    ]
    pools = [pool for pool in pools if len(pool)]
    which = random.integers(len(pools), size=(n_rows, forest.n_features))
    picks = np.stack([random.choice(pool, size=which.shape) for pool in pools])
    return np.ascontiguousarray(np.take_along_axis(picks, which[None], axis=0)[0])


def chains_of(thresholds: NDArray[np.float64], n_splits: int) -> Forest:
    """A forest on one feature, ``n_splits`` thresholds to a tree, each split the right child of the last."""
    parts = [thresholds[first : first + n_splits] for first in range(0, len(thresholds), n_splits)]
    lengths = np.array([2 * len(part) + 1 for part in parts])
    start = np.concatenate([[0], np.cumsum(lengths)])
    place = np.arange(start[-1]) - np.repeat(start[:-1], lengths)
    inner = (place % 2 == 0) & (place < np.repeat(lengths, lengths) - 1)
    threshold = np.zeros(start[-1])
    threshold[inner] = thresholds
    random = np.random.default_rng(0)
    return Forest(
        tree_start=start,
        feature=np.where(inner, 0, -1).astype(np.int32),
        threshold=threshold,
        left=np.where(inner, place + 1, 0).astype(np.int32),
        right=np.where(inner, place + 2, 0).astype(np.int32),
        rule=np.zeros(start[-1], np.uint8),
        category_set=np.full(start[-1], -1, np.int32),
        set_start=np.zeros(1, np.int64),
        set_words=np.zeros(0, np.uint32),
        leaf_value=np.where(inner, 0, random.normal(size=start[-1]))[:, None],
        tree_output=np.zeros(len(parts), np.int32),
        base=np.zeros(1),
        bias=np.zeros(1),
        scale=1.0,
        n_features=1,
        n_outputs=1,
        single=False,
        average=False,
        flush_tiny=False,
    )


def scored(kernel: ForestKernel, forest: Forest, X: NDArray[np.floating]) -> NDArray[np.floating]:
    """What the kernel writes for the rows of ``X``."""
    out = np.full((len(X), forest.n_outputs), np.nan, np.float32 if forest.single else np.float64)
    kernel.score_rows(X, out)
    return out


def scored_by_columns(kernel: ForestKernel, forest: Forest, X: NDArray[np.floating]) -> NDArray[np.floating]:
    """The same through the door for columns."""
    out = np.full((len(X), forest.n_outputs), np.nan, np.float32 if forest.single else np.float64)
    kernel.score_columns([np.ascontiguousarray(column) for column in X.T], out)
    return out
