"""Which kernel scores a forest: whichever is fastest, at each size of batch, on the machine at hand.

All of them give the same bits, so nothing but time depends on the choice.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.forests.binning import Unsuited
from kernels.forests.blended_trees import BlendedTrees
from kernels.forests.dispatch import by_size
from kernels.forests.forest import CATEGORICAL, Forest
from kernels.forests.interleaved import Interleaved
from kernels.forests.interval_masks import IntervalMasks
from kernels.forests.simd import VECTOR_BYTES
from kernels.forests.tabulated import Tabulated
from kernels.forests.traversal import Traversal

BATCH_ROWS = (1, 64, 256)
"""The sizes that are tried; a batch is scored by what won at the largest of them that it reaches."""
TRIAL_SECONDS = 0.02
"""How long the kernels are tried at one size, together."""
SURELY = 2.0
"""Masks that should be faster than walks by this factor spare walks the trial."""
STEP_COST = 1.0
"""A step of a walk, by the cost of looking up a mask row."""
CACHED_BYTES = 1 << 23
"""Tables of at most this size mostly stay in the processor's caches."""


class ForestKernel(Protocol):
    """A forest ready to be scored. Calls may run at the same time in several threads."""

    @property
    def name(self) -> str:
        """What it is, for ``tandem inspect``."""

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the margins of ``X`` to ``out``.

        Args:
            X: C-order [n, F] of the type the kernel was chosen for, writable.
            out: C-order [n, K], float32 if the forest is ``single``, else float64.
        """

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for ``F`` contiguous columns of ``n`` values each."""


class Choice:
    """The kernels of a forest by size of batch; a ``ForestKernel`` itself.

    Attributes:
        by_rows: The kernel for batches of at least so many rows.
    """

    def __init__(self, by_rows: Mapping[int, ForestKernel]) -> None:
        self.by_rows = dict(by_rows)
        self.score_rows = self._for_rows()

    def _for_rows(self) -> Callable[[NDArray[Any], NDArray[Any]], None]:
        tabulated = {n: kernel for n, kernel in self.by_rows.items() if isinstance(kernel, Tabulated)}
        if len(tabulated) == len(self.by_rows):
            return by_size(tabulated)
        return lambda X, out: self.kernel_for(len(out)).score_rows(X, out)

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """As a ``ForestKernel``'s."""
        self.kernel_for(len(out)).score_columns(columns, out)

    @property
    def names(self) -> dict[str, str]:
        """The kernels' names by size of batch, in words."""
        return {f"from {n} row{'s' * (n > 1)}": kernel.name for n, kernel in self.by_rows.items()}

    @property
    def name(self) -> str:
        """One name, or each with the size of batch from which it is used."""
        if len(set(self.names.values())) == 1:
            return self.by_rows[BATCH_ROWS[0]].name
        return ", ".join(f"{name} {size}" for size, name in self.names.items())

    def kernel_for(self, n_rows: int) -> ForestKernel:
        """The kernel that scores a batch of ``n_rows``."""
        return self.by_rows[BATCH_ROWS[max(bisect_right(BATCH_ROWS, n_rows), 1) - 1]]


def choose(forest: Forest, dtype: DTypeLike) -> Choice:
    """The kernels for ``forest`` over features of ``dtype`` (float32 or float64)."""
    masks, blends = _made(IntervalMasks, forest, dtype), _made(BlendedTrees, forest, dtype)
    surely = isinstance(masks, IntervalMasks) and surely_fastest(masks.n_lookups, masks.n_bytes, forest)
    walks = None if surely else _made(Interleaved, forest, dtype)
    for_any: list[ForestKernel] = [kernel for kernel in (masks, walks) if kernel] or [Traversal(forest)]
    for_many = [*for_any, blends] if blends else for_any
    return Choice(
        {
            n_rows: fastest(for_many if n_rows >= VECTOR_BYTES else for_any, forest, dtype, n_rows)
            for n_rows in BATCH_ROWS
        }
    )


def _made(kind: type[Tabulated], forest: Forest, dtype: DTypeLike) -> Tabulated | None:
    try:
        return kind(forest, dtype)
    except Unsuited:
        return None


def surely_fastest(n_lookups: int, n_bytes: int, forest: Forest) -> bool:
    """Whether masks of so many lookups a row and so large tables are faster than walks without a trial."""
    return n_bytes < CACHED_BYTES and n_lookups * SURELY < n_steps(forest) * STEP_COST


def n_steps(forest: Forest) -> float:
    """About how many nodes a row passes, if the trees were balanced."""
    n_nodes = np.diff(forest.tree_start)
    return float(np.log2((n_nodes + 1) / 2).sum())


def fastest(kernels: Sequence[ForestKernel], forest: Forest, dtype: DTypeLike, n_rows: int) -> ForestKernel:
    """The kernel that scores some likely batch of ``n_rows`` in the shortest time."""
    if len(kernels) == 1:
        return kernels[0]
    X = likely_rows(forest, max(n_rows, 256)).astype(dtype)
    out = np.empty((n_rows, forest.n_outputs), np.float32 if forest.single else np.float64)
    for kernel in kernels:
        kernel.score_rows(X[:n_rows], out)
    best = dict.fromkeys(kernels, np.inf)
    stop = time.perf_counter() + TRIAL_SECONDS
    start = 0
    while start == 0 or time.perf_counter() < stop:
        for kernel in kernels:
            first = start % (len(X) - n_rows + 1)
            begin = time.perf_counter()
            kernel.score_rows(X[first : first + n_rows], out)
            best[kernel] = min(best[kernel], time.perf_counter() - begin)
        start += 1
    return min(kernels, key=lambda kernel: best[kernel])


def likely_rows(forest: Forest, n_rows: int) -> NDArray[np.float64]:
    """Rows that spread over all leaves: thresholds that occur, or small codes, the same at every load."""
    random = np.random.default_rng(0)
    X = random.integers(0, 32, size=(n_rows, forest.n_features)).astype(np.float64)
    numeric = (forest.feature >= 0) & ((forest.rule & CATEGORICAL) == 0)
    for feature in np.unique(forest.feature[numeric]):
        X[:, feature] = random.choice(forest.threshold[numeric & (forest.feature == feature)], size=n_rows)
    return X
