"""What is made of scores afterwards: the best outputs of each row, and decisions at thresholds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import kernel


@kernel
def best_outputs(scores: NDArray[Any], outputs: NDArray[np.int64], best: NDArray[Any]) -> None:
    """Write the outputs with the highest scores of each row, and these scores, highest first.

    Of equal scores the output that comes first is first; NaN comes after all numbers.

    Args:
        scores: float32 or float64[n, K].
        outputs: int64[n, M], M at most K.
        best: [n, M] of the scores' type.
    """
    for row in range(outputs.shape[0]):
        n_found = 0
        for output in range(scores.shape[1]):
            score = scores[row, output]
            place = n_found
            while place > 0 and is_higher(score, best[row, place - 1]):
                place -= 1
            if place < outputs.shape[1]:
                n_found = min(n_found + 1, outputs.shape[1])
                for later in range(n_found - 1, place, -1):
                    best[row, later] = best[row, later - 1]
                    outputs[row, later] = outputs[row, later - 1]
                best[row, place] = score
                outputs[row, place] = output


@kernel
def is_higher(score: float, other: float) -> bool:
    """Whether a score ranks before another: it is higher, or a number where the other is NaN."""
    return score > other or (np.isnan(other) and not np.isnan(score))


@kernel
def decide(scores: NDArray[Any], thresholds: NDArray[Any], decisions: NDArray[np.bool_]) -> None:
    """Write whether each score reaches the threshold of its output; NaN never does.

    Args:
        scores: float32 or float64[n, K].
        thresholds: [K] of the scores' type.
        decisions: bool[n, K].
    """
    for row in range(scores.shape[0]):
        for output in range(scores.shape[1]):
            decisions[row, output] = scores[row, output] >= thresholds[output]
