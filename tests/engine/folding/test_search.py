"""Edges are exact to the last bit, and are found in few calls of the transforms."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from engine.folding.columns import Column
from engine.folding.search import Search
from engine.folding.splits import Pipeline, Split
from engine.schema import Feature, FeatureType

CURVES: dict[str, Callable[[Any], Any]] = {
    "a line": lambda x: (x - 3.7) / 1.3,
    "a falling line": lambda x: x * -0.01 + 12.5,
    "a curve": lambda x: np.log1p(np.maximum(x, 0)),
    "steps": lambda x: np.floor(np.clip(x, -9, 9)),
    "cubes": lambda x: np.cbrt(x),
}


class Counted:
    """Makes two columns of a feature each, and counts how often."""

    def __init__(self, curve: Callable[[Any], Any]) -> None:
        self.calls = 0
        self._curve = curve

    def __call__(self, columns: Sequence[Any]) -> Any:
        self.calls += 1
        return np.column_stack([self._curve(columns[0]), -columns[1]])

    def of(self, number: Any, split: Split) -> float:
        """What a split compares where both features are this number."""
        return float(self([number, number])[0, split.column])


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_an_edge_is_the_last_number_that_goes_left(curve: Callable[[Any], Any], kind: FeatureType) -> None:
    made = Counted(curve)
    features = (Feature("x", kind), Feature("y", kind))
    data = np.random.default_rng(0).normal(size=300).astype(kind) * 10
    splits = [Split(0, 0, float(threshold), -1) for threshold in [*curve(data), -1e300, 1e300]]
    splits += [Split(1, 0, float(threshold), -1) for threshold in [0.0, *data[:50]]]
    search = Search(None, features, Pipeline(made, [Column(0), Column(1)]), splits)
    low_left = search.low_left()
    edges = search.edges(low_left)
    assert made.calls <= 20
    for split, edge, low in zip(splits, edges, low_left, strict=True):
        towards = np.array([np.inf if low else -np.inf], kind)
        highest = np.nextafter(towards, -towards)
        if np.isnan(edge):
            assert made.of(-highest, split) > split.threshold
        elif np.isinf(edge):
            assert made.of(highest, split) <= split.threshold
        else:
            last = np.array([edge], kind)
            assert last == edge
            assert made.of(last, split) <= split.threshold < made.of(np.nextafter(last, towards), split)
