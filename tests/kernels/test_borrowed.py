"""Machine code that borrows its arrays sees what they hold, refuses others and keeps none."""

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.compiler import entry, kernel


@kernel
def weighted(X: NDArray[Any], out: NDArray[Any]) -> int:
    """Write the sums of rows, the column numbers as weights, and answer how many rows there are."""
    for row in range(X.shape[0]):
        out[row] = 0
        for column in range(X.shape[1]):
            out[row] += (column + 1) * X[row, column]
    return len(out)


def weigh(X: Any, out: Any) -> int:
    examples = np.empty((1, 1), np.float32), np.empty(1)
    n_rows: int = entry(weighted, *examples)(X, out)
    return n_rows


@pytest.mark.parametrize("shape", [(3, 2), (1, 7), (0, 2), (2, 0)])
def test_data_and_lengths_are_those_of_the_array(shape: tuple[int, int]) -> None:
    X = np.random.default_rng(0).integers(0, 9, shape).astype(np.float32)
    out = np.full(len(X), -7.0)
    assert weigh(X, out) == len(X)
    assert out.tolist() == (X @ np.arange(1, shape[1] + 1)).tolist()


def test_a_view_is_read_from_where_it_begins() -> None:
    X, out = np.arange(12, dtype=np.float32).reshape(4, 3), np.zeros(4)
    weigh(X[1:3], out[2:])
    assert out.tolist() == [0, 0, 26, 44]


@pytest.mark.parametrize(
    "other",
    [np.ones((2, 2)), np.ones((2, 2), np.int32), np.ones(4, np.float32), [[1.0, 2.0]], b"0" * 99, None, 1.5],
)
def test_what_is_no_such_array_is_refused(other: Any) -> None:
    with pytest.raises(TypeError, match=r"expected an array\(float32, 2d, C\)"):
        weigh(other, np.zeros(2))


def test_no_reference_is_kept_or_lost() -> None:
    X, out = np.ones((2, 2), np.float32), np.zeros(2)
    before = sys.getrefcount(X), sys.getrefcount(out)
    for _ in range(100):
        weigh(X, out)
    assert (sys.getrefcount(X), sys.getrefcount(out)) == before
