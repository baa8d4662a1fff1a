"""Finding the rows that a backend raises on, so that their neighbours are still scored."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.floating[Any]]
MAX_FAILED_CALLS = 64
"""After so many calls that raised, the rest counts as failed: the backend is broken, not a row."""


def score_bisected(score: Callable[[Block], Block], X: Block) -> tuple[Block, dict[int, str]]:
    """Scores of the rows that can be scored, and the others with what the backend said.

    Args:
        score: ``score_rows`` of a model; raised on ``X`` already.
        X: ``[n, features]``.

    Returns:
        ``[n, outputs]``, NaN where a row failed, and the reason by row. Where all failed nobody has told how
        many outputs there are: ``[n, 0]``.
    """
    scored: list[tuple[int, Block]] = []
    failed: dict[int, str] = {}
    n_raised = 0
    parts = [(0, len(X))]
    while parts:
        start, stop = parts.pop()
        try:
            if n_raised >= MAX_FAILED_CALLS:
                raise RuntimeError("too many rows failed before it")
            scored.append((start, score(X[start:stop])))
        except Exception as error:  # noqa: BLE001 a backend may raise anything; it becomes the rows' reason
            n_raised += 1
            if stop - start == 1 or n_raised > MAX_FAILED_CALLS:
                failed.update(dict.fromkeys(range(start, stop), str(error) or type(error).__name__))
            else:
                middle = (start + stop) // 2
                parts += [(middle, stop), (start, middle)]
    return _placed(scored, len(X)), failed


def _placed(scored: list[tuple[int, Block]], n_rows: int) -> Block:
    if not scored:
        return np.empty((n_rows, 0))
    first = scored[0][1]
    scores = np.full((n_rows, first.shape[1]), np.nan, first.dtype)
    for start, part in scored:
        scores[start : start + len(part)] = part
    return scores
