"""Linear and logistic models on the linear kernel."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.device import on_device
from engine.bundle import Bundle
from engine.config import Device
from engine.errors import InvalidBundle
from kernels.gpu.crossover import Kernel
from kernels.linear.model import Linear

FILE = "linear.npz"


class LinearBackend:
    """A linear model: ``coef`` [K, F] and ``intercept`` [K]."""

    margin_dtype = np.dtype(np.float64)

    def __init__(
        self, coef: NDArray[Any], intercept: NDArray[Any], dtype: np.dtype[Any], device: Device = "cpu"
    ) -> None:
        self.n_outputs = len(intercept)
        model = on_device(
            Linear(coef, intercept),
            lambda: _twin(coef, intercept),
            device,
            n_features=coef.shape[1],
            n_outputs=self.n_outputs,
            dtype=dtype,
            margin_dtype=self.margin_dtype,
        )
        self.name = model.name
        self.score_rows = model.score_rows
        self.score_columns = model.score_columns


def load(bundle: Bundle, device: Device = "cpu") -> LinearBackend:
    """The backend of a bundle of kind ``linear``; raises ``InvalidBundle``, ``Failed`` without the device."""
    arrays = bundle.arrays(FILE)
    n_features = len(bundle.manifest.schema.features)
    try:
        coef, intercept = arrays["coef"], arrays["intercept"]
    except KeyError as error:
        raise InvalidBundle(f"expected {error} in '{FILE}' of bundle {bundle.label}") from error
    if coef.shape != (len(intercept), n_features):
        raise InvalidBundle(
            f"expected coefficients of shape {[len(intercept), n_features]} in bundle {bundle.label},"
            f" got {list(coef.shape)}"
        )
    return LinearBackend(coef, intercept, bundle.manifest.schema.dtype, device)


def _twin(coef: NDArray[Any], intercept: NDArray[Any]) -> Kernel:
    from kernels.gpu.linear import GpuLinear

    return GpuLinear(coef, intercept)
