"""Oracles: what kernels must compute, written in plain Python to be believed, not to be fast."""

import math
import struct
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from kernels.forests.forest import CATEGORICAL, DEFAULT_LEFT, LESS, SET_RIGHT, Forest


def forest_margins(forest: Forest, rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """The margins of each row: the definition in ``Forest``'s docstring, sentence by sentence."""
    return [row_margins(forest, [float(x) for x in row]) for row in rows]


def row_margins(forest: Forest, row: Sequence[float]) -> list[float]:
    rounded = to_single if forest.single else float
    sums = [rounded(value) for value in forest.base]
    n_added = [0] * forest.n_outputs
    for tree in range(forest.n_trees):
        leaf = exit_leaf(forest, tree, row)
        for v, value in enumerate(forest.leaf_value[leaf]):
            output = int(forest.tree_output[tree]) + v
            sums[output] = rounded(sums[output] + rounded(value))
            n_added[output] += 1
    if forest.scale != 1 or any(forest.bias):
        scale = rounded(forest.scale)
        sums = [rounded(rounded(scale * s) + rounded(b)) for s, b in zip(sums, forest.bias, strict=True)]
    if forest.average:
        sums = [rounded(s / n) if n else s for s, n in zip(sums, n_added, strict=True)]
    return sums


def exit_leaf(forest: Forest, tree: int, row: Sequence[float]) -> int:
    """The node of ``tree`` at which the row ends."""
    start = int(forest.tree_start[tree])
    node = start
    while forest.feature[node] >= 0:
        child = (
            forest.left[node] if goes_left(forest, node, row[forest.feature[node]]) else forest.right[node]
        )
        node = start + int(child)
    return node


def goes_left(forest: Forest, node: int, x: float) -> bool:
    rule = int(forest.rule[node])
    if math.isnan(x):
        return bool(rule & DEFAULT_LEFT)
    if rule & CATEGORICAL:
        return in_set(forest, int(forest.category_set[node]), x) != bool(rule & SET_RIGHT)
    if forest.flush_tiny and abs(x) <= to_single(1e-35):
        x = 0.0
    threshold = float(forest.threshold[node])
    return x < threshold if rule & LESS else x <= threshold


def in_set(forest: Forest, index: int, x: float) -> bool:
    if math.isinf(x):
        return False
    code = math.trunc(x)
    words = forest.set_words[forest.set_start[index] : forest.set_start[index + 1]]
    return 0 <= code < 32 * len(words) and bool(int(words[code // 32]) >> (code % 32) & 1)


def to_single(value: float) -> float:
    """``value`` rounded to the nearest float32, overflow to infinity."""
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def bits(values: object) -> list[int]:
    """The float64 bit patterns, for comparisons that tell 0.0 from -0.0."""
    return np.asarray(values, np.float64).view(np.uint64).ravel().tolist()


def bin_of(edges: Sequence[float], x: float) -> int:
    """How many edges lie below ``x``; a bin more than there can be if it is missing."""
    return len(edges) + 1 if math.isnan(x) else sum(edge < x for edge in edges)


def bin_counts(edges: Sequence[float], values: Sequence[float], stride: int) -> list[int]:
    """How many of every ``stride``-th value are in each bin; the last one is missing values."""
    counts = [0] * (len(edges) + 2)
    for place, x in enumerate(values):
        if place % stride == 0:
            counts[bin_of(edges, float(x))] += 1
    return counts


def ulps(got: float, exact: Decimal) -> float:
    """How far a float is from an exact value, in units in that value's last place."""
    return float(abs(Decimal(got) - exact) / Decimal(math.ulp(float(exact))))
