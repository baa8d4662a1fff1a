"""Where the splits on transformed numbers lie among the raw numbers: all splits are searched for at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UnsupportedModel
from engine.folding.ordered_floats import grid, keys_of, of_keys, span
from engine.folding.splits import Pipeline, Split, evaluated, evaluated_or_missing, goes_left, raw_type
from engine.schema import Feature
from kernels.forests.forest import Forest

REACHES = (1.0, 0.5, 0.25, 0.1)
"""How far from 0 numbers are tried, as a share of the exponent range: less where a transform overflows."""

ROWS = 4000
"""How many numbers of a feature are tried at once: to call transformers costs as much as these do."""
LeftAt = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""Whether the numbers at some places [n, splits] go left."""


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
        self._used = [int(source) for source in np.unique(self._sources)]
        self._reach = self._find_reach()
        self._grids = {source: grid(raw_type(features[source]), self._reach) for source in self._used}
        self._made = self._evaluate(self._grids)

    def low_left(self) -> NDArray[np.bool_]:
        """Whether the lowest numbers go left, per split.

        Raises ``UnsupportedModel`` unless all numbers that go left lie at one end.
        """
        ends = np.empty((4, len(self._splits)))  # lowest, first and last with a value, highest
        for source, points in self._grids.items():
            for column in np.unique(self._columns[self._sources == source]):
                made = self._ends(self._made[: len(points), column], source)
                ends[:, self._columns == column] = made[:, None]
        left = goes_left(self._forest, self._splits, ends)
        turns = (left[1:] != left[:-1]).sum(axis=0)
        if (turns > 1).any():
            self._refuse(int(self._sources[np.argmax(turns)]))
        lowest: NDArray[np.bool_] = left[0]
        return lowest

    def edges(self, low_left: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Per split the last raw number, seen from the end that goes left, that does; NaN if none does."""
        last = np.array([len(self._grids[source]) - 1 for source in self._sources])
        good, bad = np.where(low_left, 0, last), np.where(low_left, last, 0)
        none, whole = ~self._left_on_grid(good), self._left_on_grid(bad)
        bad = np.where(none | whole, good, bad)
        good, bad = self._narrowed(good, bad, self._left_on_grid)
        good, bad = self._narrowed(self._keys(good), self._keys(bad), self._left)
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

    def _narrowed(
        self, good: NDArray[np.int64], bad: NDArray[np.int64], left_at: LeftAt
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The last place, from ``good`` to ``bad``, that goes left, and the one after it, per split.

        Where ``good`` is ``bad``, both stay what they are. They are less than 2**53 places apart, as keys of
        neighbours on a grid are, so that shares of the way are exact enough to get ahead.
        """
        while (apart := np.abs(bad - good) > 1).any():
            n_tried = max(1, ROWS // int(np.bincount(self._sources[apart]).max()))
            shares = np.linspace(0.0, 1.0, n_tried + 2)[:, None]
            places = good + ((bad - good) * shares).astype(np.int64)
            left = np.vstack([left_at(places[1:-1]), np.zeros(len(good), np.bool_)])  # ``bad`` does not
            last = left.argmin(axis=0)[None]
            good, bad = (np.take_along_axis(places, place, axis=0)[0] for place in (last, last + 1))
        return good, bad

    def _left_on_grid(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        return goes_left(self._forest, self._splits, self._made[places, self._columns])

    def _left(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        points, places = {}, {}
        for source in self._used:
            tried, places[source] = np.unique(keys[:, self._sources == source], return_inverse=True)
            points[source] = of_keys(tried, raw_type(self._features[source]))
        made = self._evaluate(points)
        values = np.empty(keys.shape)
        for source in self._used:
            mine = self._sources == source
            values[:, mine] = made[places[source], self._columns[mine]]
        return goes_left(self._forest, self._splits, values)

    def _keys(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The keys of numbers on the grids."""
        keys = np.empty_like(places)
        for source, points in self._grids.items():
            mine = self._sources == source
            keys[mine] = keys_of(points[places[mine]])
        return keys

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
