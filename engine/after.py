"""What is made of scores before they are answered: decisions at thresholds, or the best outputs of a row.

Both are columns of numbers beside or instead of the scores, so they pass every door and every file as
scores do, with labels that name them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.bundle import After
from engine.errors import InvalidConfig
from kernels.scores.ranking import best_outputs, decide

NOTHING = After()
SCORE = "score"
"""Label of a single score that has a decision beside it."""


def labels_after(after: After, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The labels of what is answered; raises ``InvalidConfig`` where it does not fit the model's outputs."""
    n_scores = max(1, len(labels))
    if after.thresholds and after.top:
        raise InvalidConfig("expected thresholds or top in the features file, got both")
    if after.thresholds:
        if len(after.thresholds) != n_scores:
            raise InvalidConfig(f"the model has {n_scores} outputs, got {len(after.thresholds)} thresholds")
        scores = labels or (SCORE,)
        return (*scores, *(f"{label}_reached" if labels else "reached" for label in scores))
    if after.top:
        if not 1 <= after.top <= len(labels):
            raise InvalidConfig(f"expected top from 1 to the model's {n_scores} outputs, got {after.top}")
        return tuple(name for rank in range(1, after.top + 1) for name in (f"top{rank}", f"top{rank}_output"))
    return labels


def fits(after: After, n_scores: int, n_columns: int) -> bool:
    """Whether so many scores are answered as so many columns."""
    if after.top:
        return after.top <= n_scores and n_columns == 2 * after.top
    if after.thresholds:
        return len(after.thresholds) == n_scores and n_columns == 2 * n_scores
    return n_columns == n_scores


def made_of_scores(after: After, scores: NDArray[Any]) -> NDArray[Any]:
    """What is answered [n, columns] for scores [n, K], of the scores' type.

    A NaN score reaches no threshold and comes last. Outputs are numbered from 0 in the model's order.
    """
    if after.thresholds:
        decisions = np.empty(scores.shape, np.bool_)
        decide(scores, np.array(after.thresholds, scores.dtype), decisions)
        return np.concatenate([scores, decisions.astype(scores.dtype)], axis=1)
    if after.top:
        outputs = np.empty((len(scores), after.top), np.int64)
        best = np.empty(outputs.shape, scores.dtype)
        best_outputs(scores, outputs, best)
        return np.stack([best, outputs.astype(scores.dtype)], axis=2).reshape(len(scores), 2 * after.top)
    return scores
