"""A forest over transformed features, rewritten to take the raw ones.

Every node asks a question of a transformed value; each becomes a question of the raw value with the
same answer, so the rewritten forest gives the margins of pipeline and forest together, bit for bit,
and costs no more than the forest alone. Monotone transforms move thresholds (``folding``); a map of
categories to numbers turns a threshold into a set of categories.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.folding import NotFoldable, Transform, fold_thresholds
from kernels.forest import CATEGORICAL, DEFAULT_LEFT, LESS, SET_RIGHT, Forest

TINY = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold, see ``Forest.flush_tiny``."""


@dataclass(frozen=True, slots=True, eq=False)
class FoldedColumn:
    """Where a column of the forest comes from.

    Attributes:
        feature: The raw feature.
        transform: Takes raw values, NaN among them, to what the forest was trained on, in the type
            that it compares (float32 for XGBoost); never decreases. ``None`` for the raw value itself.
        values: Instead, what each category code becomes; NaN for missing. Codes past it and
            negative ones answer as the forest does to a value that fails every test.
        missing: With ``values``: what a missing category becomes.
    """

    feature: int
    transform: Transform | None = None
    values: NDArray[np.float64] | None = None
    missing: float = np.nan


def fold_forest(
    forest: Forest, columns: Sequence[FoldedColumn], *, n_features: int, dtype: DTypeLike
) -> Forest:
    """The forest over ``n_features`` raw features that answers as ``forest`` does over ``columns`` of them.

    Args:
        forest: Over as many features as there are columns.
        columns: What each of its features is made from.
        n_features: How many raw features there are.
        dtype: float32 or float64, the type of the block of raw features.

    Raises:
        NotFoldable: A transform is not monotone, or a categorical split looks at its result.
    """
    threshold, rule = forest.threshold.copy(), forest.rule.copy()
    category_set = forest.category_set.copy()
    sets = [forest.set_words[a:b] for a, b in zip(forest.set_start, forest.set_start[1:], strict=False)]
    for place, column in enumerate(columns):
        nodes = np.flatnonzero(forest.feature == place)
        if column.values is None:
            numeric = nodes[forest.rule[nodes] & CATEGORICAL == 0]
            if column.transform is not None and len(numeric) < len(nodes):
                raise NotFoldable(f"column {place} is transformed and then split by category")
            threshold[numeric], rule[numeric] = numeric_splits(forest, numeric, column, dtype)
        else:
            for node in nodes:
                rule[node], words = category_split(forest, node, column)
                threshold[node], category_set[node] = 0.0, len(sets)
                sets.append(words)
    raw = np.array([column.feature for column in columns], np.int32)
    return replace(
        forest,
        feature=np.where(forest.feature < 0, -1, raw[forest.feature]).astype(np.int32),
        threshold=threshold,
        rule=rule,
        category_set=category_set,
        set_start=np.cumsum([0] + [len(words) for words in sets], dtype=np.int64),
        set_words=np.concatenate([np.zeros(0, np.uint32), *sets]),
        n_features=n_features,
        flush_tiny=False,
    )


def numeric_splits(
    forest: Forest, nodes: NDArray[np.intp], column: FoldedColumn, dtype: DTypeLike
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Thresholds and rules, over the raw value, of nodes that test one column."""
    threshold, rule = forest.threshold[nodes].copy(), forest.rule[nodes].copy()
    if column.transform is None and not forest.flush_tiny:
        return threshold, rule
    transform = flushed(column.transform, forest.flush_tiny)
    missing = np.asarray(transform(np.array([np.nan], dtype)), np.float64)[0]
    for less in set((rule & LESS != 0).tolist()):
        these = np.flatnonzero((forest.rule[nodes] & LESS != 0) == less)
        distinct, which = np.unique(threshold[these], return_inverse=True)
        folded, never = fold_thresholds(transform, distinct, dtype, less=less)
        if not np.isnan(missing):
            passes = missing < distinct if less else missing <= distinct
            default = np.where(passes[which], DEFAULT_LEFT, 0)
            rule[these] = rule[these] & ~DEFAULT_LEFT | default.astype(np.uint8)
        # Nothing is less than -inf: so says a split that every number fails.
        rule[these] = rule[these] & ~LESS | np.where(never[which], LESS, 0).astype(np.uint8)
        threshold[these] = folded[which]
    return threshold, rule


def flushed(transform: Transform | None, flush_tiny: bool) -> Transform:
    """The transform, and after it what LightGBM does to tiny numbers."""

    def flush(raw: NDArray[Any]) -> NDArray[Any]:
        values = raw if transform is None else transform(raw)
        return np.where(np.abs(values) <= TINY, 0, values) if flush_tiny else values

    return flush


def category_split(
    forest: Forest, node: np.intp, column: FoldedColumn
) -> tuple[np.uint8, NDArray[np.uint32]]:
    """Rule and set of a node over the code of a category."""
    values = np.append(np.asarray(column.values, np.float64), column.missing)
    left = goes_left(forest, node, values)
    codes = np.zeros(-(-(len(values) - 1) // 32) * 32, np.bool_)
    codes[: len(values) - 1] = left[:-1]
    words = np.packbits(codes, bitorder="little").view(np.uint32)
    return CATEGORICAL | (DEFAULT_LEFT if left[-1] else np.uint8(0)), words


def goes_left(forest: Forest, node: np.intp, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether rows with these values go left at a node, as ``Forest`` defines it."""
    rule, threshold = forest.rule[node], forest.threshold[node]
    missing = np.isnan(values)
    if rule & CATEGORICAL:
        first, end = forest.set_start[forest.category_set[node] :][:2]
        bits = np.unpackbits(forest.set_words[first:end].view(np.uint8), bitorder="little").astype(np.bool_)
        known = ~missing & (values > -1) & (values < len(bits))
        left = np.zeros(len(values), np.bool_)
        left[known] = bits[values[known].astype(np.int64)]
        left ^= bool(rule & SET_RIGHT)
    else:
        if forest.flush_tiny:
            values = np.where(np.abs(values) <= TINY, 0, values)
        left = values < threshold if rule & LESS else values <= threshold
    return np.where(missing, bool(rule & DEFAULT_LEFT), left)
