"""The CUDA twin of the linear kernel: one thread adds up one row, in the CPU's order.

On the CPU each product is rounded before it is added. A GPU's compiler would fuse the two into one
rounding, so the product is asked for by its own instruction.
"""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda
from numba.core import config
from numba.cuda import libdevice
from numpy.typing import NDArray

from kernels.gpu.device import chunks, launch, to_device

product = operator.mul if config.ENABLE_CUDASIM else libdevice.dmul_rn
"""float64 product, rounded once; the simulator has no libdevice, and Python rounds anyway."""


def margins(
    coef: NDArray[np.float64],
    intercept: NDArray[np.float64],
    columns: NDArray[Any],
    out: NDArray[np.float64],
) -> None:
    """Write the margins of rows to ``out``.

    Args:
        coef: float64[K, F].
        intercept: float64[K].
        columns: float32 or float64[F, n].
        out: float64[n, K].
    """
    row = cuda.grid(1)
    if row < out.shape[0]:
        for k in range(coef.shape[0]):
            margin = 0.0
            for feature in range(coef.shape[1]):
                margin += product(coef[k, feature], np.float64(columns[feature, row]))
            out[row, k] = margin + intercept[k]


class GpuLinear:
    """A linear model on a GPU; rows travel there and margins back."""

    name = "linear (CUDA)"

    def __init__(self, coef: NDArray[np.float64], intercept: NDArray[np.float64]) -> None:
        """``coef`` is [K, F] and ``intercept`` [K]."""
        self._coef = to_device(np.ascontiguousarray(coef, np.float64))
        self._intercept = to_device(np.ascontiguousarray(intercept, np.float64))

    def score_rows(self, X: NDArray[Any], out: NDArray[np.float64]) -> None:
        """Write the margins of ``X`` (float32 or float64[n, F]) to ``out`` (float64[n, K])."""
        for rows in chunks(len(out), X.shape[1]):
            self._score(np.ascontiguousarray(X[rows].T), out[rows])

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[np.float64]) -> None:
        """The same for ``F`` columns of ``n`` values."""
        for rows in chunks(len(out), len(columns)):
            self._score(np.stack([column[rows] for column in columns]), out[rows])

    def _score(self, columns: NDArray[Any], out: NDArray[np.float64]) -> None:
        device_out = to_device(out)
        launch(margins, len(out), self._coef, self._intercept, to_device(columns), device_out)
        device_out.copy_to_host(out)
