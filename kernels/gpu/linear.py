"""The CUDA twin of the linear kernel: one thread adds up one row, in the CPU's order.

On the CPU each product is rounded before it is added. A GPU's compiler would fuse the two into one
rounding, so the product is asked for by its own instruction.
"""

import operator
from typing import Any

import numpy as np
from numba import cuda
from numba.core import config
from numba.cuda import libdevice
from numpy.typing import DTypeLike, NDArray

from kernels.gpu.device import launch, to_device
from kernels.gpu.staging import Slot, Staging

product = operator.mul if config.ENABLE_CUDASIM else libdevice.dmul_rn
"""float64 product, rounded once; the simulator has no libdevice, and Python rounds anyway."""


def margins(
    coef: NDArray[np.float64],
    intercept: NDArray[np.float64],
    values: NDArray[Any],
    feature_step: int,
    row_step: int,
    n_rows: int,
    out: NDArray[np.float64],
) -> None:
    """Write the margins of rows to ``out``.

    Args:
        coef: float64[K, F].
        intercept: float64[K].
        values: The features, float32 or float64, flat.
        feature_step: From a row's feature to the next one in ``values``.
        row_step: From a feature's row to the next one in ``values``.
        n_rows: How many there are.
        out: float64[n_rows or more, K].
    """
    row = cuda.grid(1)
    if row < n_rows:
        for k in range(coef.shape[0]):
            margin = 0.0
            for feature in range(coef.shape[1]):
                x = np.float64(values[feature * feature_step + row * row_step])
                margin += product(coef[k, feature], x)
            out[row, k] = margin + intercept[k]


class GpuLinear:
    """A linear model on a GPU; values travel there and margins back."""

    name = "linear (CUDA)"

    def __init__(self, coef: NDArray[np.float64], intercept: NDArray[np.float64], dtype: DTypeLike) -> None:
        """``coef`` is [K, F], ``intercept`` [K], ``dtype`` the features' type."""
        n_outputs, n_features = coef.shape
        self._coef = to_device(np.ascontiguousarray(coef, np.float64))
        self._intercept = to_device(np.ascontiguousarray(intercept, np.float64))
        staging = Staging(self._add, range(n_features), n_features, dtype, np.empty((0, n_outputs)))
        self.score_rows, self.score_columns = staging.score_rows, staging.score_columns

    def _add(self, slot: Slot) -> None:
        values = (slot.values, slot.feature_step, slot.row_step)
        launch(
            margins, slot.n_rows, slot.stream, self._coef, self._intercept, *values, slot.n_rows, slot.sums
        )
