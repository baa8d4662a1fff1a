"""Numbers that the transforms refuse are missing, and no other is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from engine.errors import UnsupportedModel
from engine.folding.columns import Column
from engine.folding.splits import Pipeline, evaluated_or_missing
from engine.schema import Feature

FEATURES = (Feature("a"), Feature("b"))


def refusing(refused: float) -> Pipeline:
    """Doubles two columns, and refuses tables in which one number stands in either."""

    def evaluate(columns: Sequence[Any]) -> Any:
        made = np.column_stack(columns)
        if (made == refused).any() or not len(made):
            raise ValueError("no such number")
        return made * 2

    return Pipeline(evaluate, [Column(0), Column(1)])


def test_a_refused_number_is_missing_and_no_other_one_beside_it() -> None:
    points = {0: np.array([1.0, -1.0, 3.0]), 1: np.array([5.0, 6.0, 7.0, -1.0])}
    made = evaluated_or_missing(FEATURES, refusing(-1.0), points)
    np.testing.assert_array_equal(made[:, 0][:3], [2.0, np.nan, 6.0])
    np.testing.assert_array_equal(made[:, 1], [10.0, 12.0, 14.0, np.nan])


def test_transforms_that_refuse_what_is_usual_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="refuse ordinary numbers: no such number"):
        evaluated_or_missing(FEATURES, refusing(0.0), {0: np.array([1.0, 2.0])})
