"""The splits of a forest as values, and which transformed values go left at them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.schema import Feature
from kernels.forests.forest import CATEGORICAL, DEFAULT_LEFT, LESS, SET_RIGHT, Forest

TINY = float(np.float32(1e-35))

Evaluate = Callable[[Sequence[NDArray[Any]]], NDArray[np.floating]]
"""From one array [n] per raw feature to the model's columns [n, M], in the type the model compares in."""


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """What lies between the raw data and a model.

    Attributes:
        evaluate: The transform itself.
        sources: Index of the raw feature that each of the model's columns is made of.
    """

    evaluate: Evaluate
    sources: Sequence[int]


@dataclass(frozen=True, slots=True)
class Split:
    """The test of an inner node, without its place in a tree; fields as in ``Forest``."""

    column: int
    rule: int
    threshold: float
    category_set: int


def splits_of(forest: Forest) -> dict[int, Split]:
    """The split of each inner node."""
    return {
        int(node): Split(
            int(forest.feature[node]),
            int(forest.rule[node]),
            float(forest.threshold[node]),
            int(forest.category_set[node]),
        )
        for node in np.flatnonzero(forest.feature >= 0)
    }


def goes_left(forest: Forest, splits: Sequence[Split], values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether each value goes left at the split in its place, or at the only one, by ``Forest``'s rules."""
    values = values.astype(np.float64)
    rule = np.array([split.rule for split in splits])
    threshold = np.array([split.threshold for split in splits])
    flushed = np.where(np.abs(values) <= TINY, 0.0, values) if forest.flush_tiny else values
    left = np.where(rule & LESS, flushed < threshold, flushed <= threshold)
    for index in np.flatnonzero(rule & CATEGORICAL):
        place: Any = index if len(splits) > 1 else slice(None)
        left[place] = _in_set(forest, splits[int(index)], values[place])
    return np.where(np.isnan(values), (rule & DEFAULT_LEFT) > 0, left)


def raw_type(feature: Feature) -> np.dtype:
    """The float type that holds a numeric feature's raw values."""
    return np.dtype(np.float32 if feature.type == "float32" else np.float64)


def _in_set(forest: Forest, split: Split, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    start, end = forest.set_start[split.category_set : split.category_set + 2]
    bits = np.unpackbits(forest.set_words[start:end].view(np.uint8), bitorder="little").astype(np.bool_)
    inside = (values > -1) & (values < len(bits))
    codes = np.where(inside, values, 0).astype(np.int64)
    return (inside & bits[codes]) != bool(split.rule & SET_RIGHT)
