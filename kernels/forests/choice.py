"""Which kernel scores a forest: whichever is fastest, at each size of batch, on the machine at hand.

All of them give the same bits, so nothing but time depends on the choice.
"""

import itertools
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.forests.binning import Unsuited
from kernels.forests.blended_trees import BlendedTrees
from kernels.forests.dispatch import BATCH_ROWS, by_size
from kernels.forests.ending import sum_dtype
from kernels.forests.forest import CATEGORICAL, Forest
from kernels.forests.interleaved import Interleaved
from kernels.forests.interval_masks import IntervalMasks
from kernels.forests.tabulated import Tabulated
from kernels.forests.traversal import Traversal

TRIAL_SECONDS = 0.02
"""How long the kernels are tried at one size, together: once each at least, and then in turn."""
SURELY = 2.0
"""Masks spare walks the trial, and their tables' making, if a row passes so many times more nodes than it
looks up mask rows."""
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
        by_rows: For each of BATCH_ROWS the kernel for batches of at least so many rows.
    """

    def __init__(self, by_rows: Mapping[int, ForestKernel]) -> None:
        self.by_rows = dict(by_rows)

    @cached_property
    def score_rows(self) -> Callable[[NDArray[Any], NDArray[Any]], None]:
        """As a ``ForestKernel``'s."""
        tabulated = {n: kernel for n, kernel in self.by_rows.items() if isinstance(kernel, Tabulated)}
        if len(tabulated) == len(self.by_rows):
            return by_size(tabulated)
        return lambda X, out: self.kernel_for(len(out)).score_rows(X, out)

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """As a ``ForestKernel``'s."""
        self.kernel_for(len(out)).score_columns(columns, out)

    @property
    def names(self) -> dict[str, str]:
        """The kernels' names, by the size of batch from which on they are used, in words."""
        kernels = itertools.groupby(self.by_rows.items(), key=lambda item: item[1].name)
        first_rows = {next(sizes)[0]: name for name, sizes in kernels}
        return {f"from {n} row{'s' * (n > 1)}": name for n, name in first_rows.items()}

    @property
    def name(self) -> str:
        """One name, or each with the size of batch from which it is used."""
        if len(self.names) == 1:
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
    for_some = [*for_any, blends] if blends else for_any
    X = likely_rows(forest, max(BATCH_ROWS)).astype(dtype)
    out = np.empty((len(X), forest.n_outputs), sum_dtype(forest))
    return Choice({n: fastest(for_any if n == 1 else for_some, X, out[:n]) for n in BATCH_ROWS})


def _made(kind: type[Tabulated], forest: Forest, dtype: DTypeLike) -> Tabulated | None:
    try:
        return kind(forest, dtype)
    except Unsuited:
        return None


def surely_fastest(n_lookups: int, n_bytes: int, forest: Forest) -> bool:
    """Whether masks of so many lookups a row and so large tables are faster than walks without a trial."""
    return n_bytes < CACHED_BYTES and n_lookups * SURELY < n_steps(forest)


def n_steps(forest: Forest) -> float:
    """About how many nodes a row passes, if the trees were balanced."""
    n_nodes = np.diff(forest.tree_start)
    return float(np.log2((n_nodes + 1) / 2).sum())


def fastest(kernels: Sequence[ForestKernel], X: NDArray[Any], out: NDArray[Any]) -> ForestKernel:
    """The kernel that scores as many rows of ``X`` as ``out`` has in the shortest time."""
    if len(kernels) == 1:
        return kernels[0]
    best = dict.fromkeys(kernels, np.inf)
    stop = time.perf_counter() + TRIAL_SECONDS
    for first in itertools.cycle(range(len(X) - len(out) + 1)):
        for kernel in kernels:
            begin = time.perf_counter()
            kernel.score_rows(X[first : first + len(out)], out)
            best[kernel] = min(best[kernel], time.perf_counter() - begin)
        if time.perf_counter() >= stop:
            break
    return min(kernels, key=lambda kernel: best[kernel])


def likely_rows(forest: Forest, n_rows: int) -> NDArray[np.float64]:
    """Rows that spread over all leaves: thresholds that occur, or small codes, the same at every load."""
    random = np.random.default_rng(0)
    X = random.integers(0, 32, size=(n_rows, forest.n_features)).astype(np.float64)
    nodes = np.flatnonzero((forest.feature >= 0) & ((forest.rule & CATEGORICAL) == 0))
    nodes = nodes[np.argsort(forest.feature[nodes], kind="stable")]
    features, first = np.unique(forest.feature[nodes], return_index=True)
    for feature, theirs in zip(features, np.split(nodes, first[1:]), strict=bool(len(features))):
        X[:, feature] = random.choice(forest.threshold[theirs], size=n_rows)
    return X
