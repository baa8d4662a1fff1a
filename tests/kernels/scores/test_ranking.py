import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.scores.ranking import best_outputs, decide

score = st.sampled_from([0.0, -1.0, 0.5, 1.0, math.inf, -math.inf, math.nan])


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.lists(score, min_size=5, max_size=5), max_size=6), st.integers(0, 5))
def test_the_best_outputs_come_first_in_order_and_missing_scores_last(
    rows: list[list[float]], n_best: int
) -> None:
    scores = np.array(rows).reshape(-1, 5)
    outputs, best = np.full((len(rows), n_best), -1), np.full((len(rows), n_best), 9.0)
    best_outputs(scores, outputs, best)
    for row, found, values in zip(rows, outputs.tolist(), best, strict=True):
        expected = sorted(range(5), key=lambda k: (math.isnan(row[k]), -row[k] if row[k] == row[k] else 0, k))
        assert found == expected[:n_best]
        np.testing.assert_array_equal(values, [row[k] for k in found])


def test_a_score_that_reaches_its_threshold_is_a_yes() -> None:
    scores = np.array([[0.5, 0.5], [0.49, math.nan]])
    decisions = np.empty((2, 2), np.bool_)
    decide(scores, np.array([0.5, 0.6]), decisions)
    assert decisions.tolist() == [[True, False], [False, False]]
