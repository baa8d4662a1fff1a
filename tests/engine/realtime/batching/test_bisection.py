import numpy as np
from numpy.typing import NDArray

from engine.realtime.batching.bisection import MAX_FAILED_CALLS, score_bisected

Block = NDArray[np.float64]


def doubled_unless_negative(X: Block) -> Block:
    if (X < 0).any():
        raise ValueError("negative")
    return 2 * X[:, :1]


def test_only_the_poisoned_rows_fail() -> None:
    X = np.arange(100.0)[:, None]
    X[[3, 64]] = -1
    scores, failed = score_bisected(doubled_unless_negative, X)
    assert failed == {3: "negative", 64: "negative"}
    good = np.delete(np.arange(100), [3, 64])
    assert (scores[good, 0] == 2 * good).all()
    assert np.isnan(scores[[3, 64]]).all()


def test_a_model_that_raises_always_is_given_up_soon() -> None:
    calls = []

    def broken(X: Block) -> Block:
        calls.append(len(X))
        raise MemoryError

    scores, failed = score_bisected(broken, np.zeros((100_000, 1)))
    assert len(failed) == len(scores) == 100_000
    assert scores.shape[1] == 0
    assert set(failed.values()) <= {"MemoryError", "too many rows failed before it"}
    assert len(calls) == MAX_FAILED_CALLS
