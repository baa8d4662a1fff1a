"""The splits of a forest as values, and which transformed values go left at them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UnsupportedModel
from engine.folding.columns import Column, places_of
from engine.schema import Feature
from kernels.forests.forest import CATEGORICAL, DEFAULT_LEFT, LESS, SET_RIGHT, Forest

TINY = float(np.float32(1e-35))
MOST_REFUSED = 2000
"""How often numbers are tried without the refused ones."""

Evaluate = Callable[[Sequence[NDArray[Any]]], NDArray[np.floating]]
"""From one array [n] per raw feature to the model's columns [n, M], in the type the model compares in."""


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """What lies between the raw data and a model.

    Attributes:
        evaluate: The transform itself, with a number's one-hot bins as one column of bin numbers.
        columns: The model's columns, each of a raw feature.
        sources: Index of the raw feature that each column of ``evaluate`` is made of.
    """

    evaluate: Evaluate
    columns: Sequence[Column]
    sources: Sequence[int] = field(init=False)

    def __post_init__(self) -> None:
        """Find the sources."""
        behind = {place: column.source for place, column in zip(self.places, self.columns, strict=True)}
        object.__setattr__(self, "sources", list(behind.values()))

    @property
    def places(self) -> list[int]:
        """The column of ``evaluate`` behind each of the model's columns."""
        return places_of(self.columns)


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


def goes_left(
    forest: Forest | None, splits: Sequence[Split], values: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Whether each value goes left at the split in its place, or at the only one, by ``Forest``'s rules.

    Only categorical splits, and a forest that takes tiny numbers for 0, need the forest.
    """
    values = values.astype(np.float64)
    rule = np.array([split.rule for split in splits])
    threshold = np.array([split.threshold for split in splits])
    flushed = np.where(np.abs(values) <= TINY, 0.0, values) if forest and forest.flush_tiny else values
    left = np.where(rule & LESS, flushed < threshold, flushed <= threshold)
    if forest is not None:
        for index in np.flatnonzero(rule & CATEGORICAL):
            place: Any = (..., index) if len(splits) > 1 else slice(None)
            left[place] = _in_set(forest, splits[int(index)], values[place])
    return np.where(np.isnan(values), (rule & DEFAULT_LEFT) > 0, left)


def evaluated(
    features: Sequence[Feature], pipeline: Pipeline, points: Mapping[int, NDArray[Any]]
) -> NDArray[np.floating]:
    """The columns where some numeric features have ``points``, filled up with 0.

    The others have usual values: 0, or the first category.
    """
    n_rows = max(map(len, points.values()))
    columns: list[NDArray[Any]] = []
    for index, feature in enumerate(features):
        if feature.is_coded:
            columns.append(np.array([feature.categories[0]] * n_rows, dtype=object))
            continue
        given = points.get(index, np.zeros(0, raw_type(feature)))
        columns.append(np.append(given, np.zeros(n_rows - len(given), given.dtype)))
    return pipeline.evaluate(columns)


def evaluated_or_missing(
    features: Sequence[Feature], pipeline: Pipeline, points: Mapping[int, NDArray[Any]]
) -> NDArray[np.floating]:
    """The same with NaN in the columns of a number that the transforms refuse, as they do infinities.

    Raises ``UnsupportedModel`` if they refuse too many.
    """
    try:
        return _without_refused(features, pipeline, points, [MOST_REFUSED])
    except ValueError as error:
        raise UnsupportedModel(f"the transforms refuse ordinary numbers: {error}") from error


def _without_refused(
    features: Sequence[Feature],
    pipeline: Pipeline,
    points: Mapping[int, NDArray[Any]],
    budget: list[int],
) -> NDArray[np.floating]:
    try:
        return evaluated(features, pipeline, points)
    except ValueError:
        budget[0] -= 1
        if budget[0] < 0:
            raise
    n_rows = max(map(len, points.values()))
    if n_rows > 1:
        halves = (slice(n_rows // 2), slice(n_rows // 2, n_rows))
        parts = [{source: values[half] for source, values in points.items()} for half in halves]
        return np.concatenate([_without_refused(features, pipeline, part, budget) for part in parts])
    row = evaluated(features, pipeline, {source: np.zeros_like(values) for source, values in points.items()})
    sources = np.array(pipeline.sources)
    given = {source: values for source, values in points.items() if len(values)}
    for source, values in given.items():
        mine = sources == source
        row[0, mine] = np.nan
        if len(given) > 1:
            row[0, mine] = _without_refused(features, pipeline, {source: values}, budget)[0, mine]
    return row


def raw_type(feature: Feature) -> np.dtype:
    """The float type that holds a numeric feature's raw values."""
    return np.dtype(np.float32 if feature.type == "float32" else np.float64)


def _in_set(forest: Forest, split: Split, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    start, end = forest.set_start[split.category_set : split.category_set + 2]
    bits = np.unpackbits(forest.set_words[start:end].view(np.uint8), bitorder="little").astype(np.bool_)
    inside = (values > -1) & (values < len(bits))
    codes = np.where(inside, values, 0).astype(np.int64)
    return (inside & bits[codes]) != bool(split.rule & SET_RIGHT)
