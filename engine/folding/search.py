"""Where the splits on transformed numbers lie among the raw numbers: bisection, all splits at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UnsupportedModel
from engine.folding.ordered_floats import grid, of_keys, span
from engine.folding.splits import Pipeline, Split, evaluated, evaluated_or_missing, goes_left, raw_type
from engine.schema import Feature
from kernels.forests.forest import Forest

REACHES = (1.0, 0.5, 0.25, 0.1)
"""How far from 0 numbers are tried, as a share of the exponent range: less where a transform overflows."""


class Search:
    """Numeric splits of one forest behind one pipeline.

    Args:
        forest: Behind the pipeline; None for splits of no forest.
        features: The raw features.
        pipeline: The transform.
        splits: Whose columns are made of numeric features.
    """

    def __init__(
        self,
        forest: Forest | None,
        features: Sequence[Feature],
        pipeline: Pipeline,
        splits: Sequence[Split],
    ) -> None:
        self._forest, self._features, self._pipeline, self._splits = forest, features, pipeline, splits
        self._columns = np.array([split.column for split in splits])
        self._sources = np.array([pipeline.sources[column] for column in self._columns])
        self._rows = _places(self._sources)
        self._used = [int(source) for source in np.unique(self._sources)]
        self._reach = self._find_reach()

    def low_left(self) -> NDArray[np.bool_]:
        """Whether the lowest numbers go left, per split.

        Raises ``UnsupportedModel`` unless all numbers that go left lie at one end.
        """
        points = {source: grid(raw_type(self._features[source]), self._reach) for source in self._used}
        values = self._evaluate(points)
        ends = np.empty((4, len(self._splits)))  # lowest, first and last with a value, highest
        for source in self._used:
            for column in np.unique(self._columns[self._sources == source]):
                ends[:, self._columns == column] = self._ends(values[: len(points[source]), column], source)[
                    :, None
                ]
        left = np.stack([goes_left(self._forest, self._splits, end) for end in ends])
        turns = (left[1:] != left[:-1]).sum(axis=0)
        if (turns > 1).any():
            self._refuse(int(self._sources[np.argmax(turns)]))
        lowest: NDArray[np.bool_] = left[0]
        return lowest

    def edges(self, low_left: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Per split the last raw number, seen from the end that goes left, that does; NaN if none does."""
        spans = np.array([span(raw_type(self._features[source]), self._reach) for source in self._sources])
        good = np.where(low_left, spans[:, 0], spans[:, 1])
        bad = np.where(low_left, spans[:, 1], spans[:, 0])
        none, whole = ~self._left(good), self._left(bad)
        while True:
            middle = _between(good, bad)
            if ((middle == good) | (middle == bad)).all():
                break
            left = self._left(middle)
            good, bad = np.where(left, middle, good), np.where(left, bad, middle)
        edges = self._numbers(good)
        edges[whole] = np.where(low_left[whole], np.inf, -np.inf)
        edges[none] = np.nan
        return edges

    def missing_left(self) -> NDArray[np.bool_]:
        """Whether a missing value goes left, per split; False where the feature forbids it."""
        allowed = [source for source in self._used if not self._features[source].required]
        if not allowed:
            return np.zeros(len(self._splits), np.bool_)
        missing = {source: np.array([np.nan], raw_type(self._features[source])) for source in allowed}
        left = goes_left(self._forest, self._splits, self._evaluate(missing)[0, self._columns])
        return left & np.isin(self._sources, allowed)

    def _left(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        points = {
            source: of_keys(keys[self._sources == source], raw_type(self._features[source]))
            for source in self._used
        }
        values = self._evaluate(points)[self._rows, self._columns]
        return goes_left(self._forest, self._splits, values)

    def _numbers(self, keys: NDArray[np.int64]) -> NDArray[np.float64]:
        numbers = np.empty(len(keys))
        for source in self._used:
            mine = self._sources == source
            numbers[mine] = of_keys(keys[mine], raw_type(self._features[source]))
        return numbers

    def _evaluate(self, points: Mapping[int, NDArray[Any]]) -> NDArray[np.floating]:
        return evaluated_or_missing(self._features, self._pipeline, points)

    def _ends(self, values: NDArray[np.floating], source: int) -> NDArray[np.float64]:
        """The transformed lowest, first and last number with a value, and highest, of ascending numbers."""
        has_value = np.flatnonzero(~np.isnan(values))
        if not len(has_value):
            self._refuse(source)
        first, last = has_value[0], has_value[-1]
        before, after = values[first:last], values[first + 1 : last + 1]
        if last - first + 1 != len(has_value) or ((before < after).any() and (before > after).any()):
            self._refuse(source)
        return np.array([values[0], values[first], values[last], values[-1]], np.float64)

    def _refuse(self, source: int) -> None:
        raise UnsupportedModel(
            f"the transform of feature '{self._features[source].name}' neither rises nor falls throughout,"
            " so its splits cannot be folded; clip the feature first, or transform it before Tandem"
        )

    def _find_reach(self) -> float:
        for reach in REACHES:
            ends = {
                source: of_keys(span(dtype, reach), dtype)
                for source in self._used
                if (dtype := raw_type(self._features[source]))
            }
            try:
                evaluated(self._features, self._pipeline, ends)
            except ValueError:  # scikit-learn refuses infinities, which a large number may become
                continue
            return reach
        raise UnsupportedModel(
            "the transforms refuse even numbers of moderate size; clip the feature first, or apply them"
            " before Tandem"
        )


def _between(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    """A key between two, 0 where they lie on both its sides (their distance could overflow)."""
    apart = ((low < 0) & (high > 0)) | ((low > 0) & (high < 0))
    half = np.where(apart, 0, high - np.where(apart, 0, low)) // 2
    return np.where(apart, 0, low + half)


def _places(sources: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal values stand before each one."""
    places = np.zeros(len(sources), np.int64)
    for source in np.unique(sources):
        mine = sources == source
        places[mine] = np.arange(mine.sum())
    return places
