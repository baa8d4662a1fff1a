"""Each batch reaches the kernel for its size, and what goes wrong there is not lost on the way back."""

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.compiler import address_of_code, entry, kernel, object_kernel
from kernels.forests.blended_trees import BlendedTrees
from kernels.forests.dispatch import BATCH_ROWS, by_size, call_at
from kernels.forests.interleaved import Interleaved
from kernels.forests.interval_masks import IntervalMasks
from tests.kernels.drawn_forests import Shape, random_forest, random_rows, scored
from tests.reference import bits


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_batch_goes_where_its_size_says(dtype: type, single: bool) -> None:
    """Each kernel has another forest here, so the scores tell who was asked."""
    forests = [random_forest(Shape(single=single), np.random.default_rng(seed)) for seed in range(4)]
    kinds = (Interleaved, IntervalMasks, BlendedTrees, IntervalMasks)
    kernels = {
        n_rows: kind(forest, dtype) for n_rows, kind, forest in zip(BATCH_ROWS, kinds, forests, strict=True)
    }
    X = random_rows(forests[0], 300, dtype, np.random.default_rng(3))
    expected = [bits(scored(kernel, forests[0], X)) for kernel in kernels.values()]
    assert len(set(map(tuple, expected))) == len(kernels)

    score = by_size(kernels)
    del kernels
    gc.collect()  # the call alone keeps alive what it reads

    for n_rows, whose in ((0, 0), (1, 0), (31, 0), (32, 1), (63, 1), (64, 2), (255, 2), (256, 3), (300, 3)):
        out = np.empty((n_rows, 1), np.float32 if single else np.float64)
        score(X[:n_rows], out)
        assert bits(out) == expected[whose][: len(bits(out))], n_rows


@kernel
def fails(model: int, X: NDArray[Any], out: NDArray[Any]) -> None:
    """Raise, as an allocation does in a kernel when there is no memory."""
    out[0, 0] = X[0, 0]
    raise MemoryError


@object_kernel
def asks(code: int, X: NDArray[Any], out: NDArray[Any]) -> None:
    """Call the kernel at ``code``, as many rows or one."""
    call_at(code, 0, X, out, len(out) > 1)
    out[0, 0] = -1


@pytest.mark.parametrize("n_rows", [1, 2])
def test_an_error_comes_back_and_ends_the_call(n_rows: int) -> None:
    X, out = np.full((n_rows, 1), 7.0), np.zeros((n_rows, 1))
    code = address_of_code(fails, 0, X, out)

    with pytest.raises(MemoryError):
        entry(asks, 0, X, out)(code, X, out)

    assert out[0, 0] == 7
    gc.collect()  # Python's lock is held again, or this would be the end


def test_threads_with_one_row_and_with_many_do_not_disturb_each_other() -> None:
    """One row keeps Python's lock, many let go of it."""
    random = np.random.default_rng(0)
    forest = random_forest(Shape(n_trees=70, max_leaves=32), random)
    X = random_rows(forest, 2000, np.float32, random)
    kinds = (IntervalMasks, IntervalMasks, BlendedTrees, BlendedTrees)
    kernels = [kind(forest, np.float32) for kind in kinds]
    score = by_size(dict(zip(BATCH_ROWS, kernels, strict=True)))
    expected = scored(kernels[0], forest, X)

    def differing(start: int) -> int:
        n_rows = (1, 1, 40, 70, 300)[start % 5]
        out = np.empty((n_rows, 1))
        score(X[start : start + n_rows], out)
        return np.count_nonzero(bits(out) != np.array(bits(expected[start : start + n_rows])))

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(differing, range(1500))) == 0
