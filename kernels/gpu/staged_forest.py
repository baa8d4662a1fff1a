"""What the twins of forests share: the way of a batch there and back, and how sums become margins."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.forests.ending import Ending
from kernels.forests.forest import Forest
from kernels.gpu.staging import Slot, Staging, no_scratch


class StagedForest(ABC):
    """A forest on a GPU; values travel there and sums back.

    Bins would be fewer bytes, but a processor takes longer to find them than to send the values.
    """

    def __init__(
        self,
        forest: Forest,
        dtype: DTypeLike,
        used: NDArray[Any],
        scratch: Callable[[int], Any] = no_scratch,
    ) -> None:
        """``used`` are the features that the forest tests, in order; ``scratch`` as in ``Staging``."""
        self.ending = Ending.of(forest)
        sums = np.empty((0, forest.n_outputs), self.ending.base.dtype)
        self._staging = Staging(self.add_trees, used.tolist(), forest.n_features, dtype, sums, scratch)

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the margins of ``X`` (C-order [n, F]) to ``out`` (C-order [n, K])."""
        self._staging.score_rows(X, out)
        self.ending.finish(out)

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for ``F`` columns of ``n`` values."""
        self._staging.score_columns(columns, out)
        self.ending.finish(out)

    @abstractmethod
    def add_trees(self, slot: Slot) -> None:
        """Start the kernels that write the sums of a slot's chunk."""
