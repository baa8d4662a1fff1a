"""Linear and logistic models on the linear kernel."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.device import on_device
from engine.bundle import Bundle, Device
from engine.errors import InvalidBundle
from kernels.gpu.crossover import Kernel
from kernels.linear.model import Linear
from kernels.linear.terms import Terms

FILE = "linear.npz"


class LinearBackend:
    """A linear model on the kernel chosen for it."""

    margin_dtype = np.dtype(np.float64)

    def __init__(self, model: Kernel, n_outputs: int) -> None:
        self.n_outputs = n_outputs
        self.name = model.name
        self.score_rows = model.score_rows
        self.score_columns = model.score_columns


def load(bundle: Bundle, device: Device = "cpu") -> LinearBackend:
    """The backend of a bundle of kind ``linear``; raises ``InvalidBundle``, ``Failed`` without the device.

    Models with transforms stay on the CPU.
    """
    arrays = bundle.arrays(FILE)
    n_features = len(bundle.manifest.schema.features)
    if "term_coef" in arrays:
        terms = terms_of(bundle, arrays, FILE)
        return LinearBackend(Linear.of_terms(terms, n_features), len(terms.intercept))
    try:
        coef, intercept = (np.asarray(arrays[name], np.float64) for name in ("coef", "intercept"))
    except KeyError as error:
        raise InvalidBundle(f"expected {error} in '{FILE}' of bundle {bundle.label}") from error
    if coef.shape != (len(intercept), n_features):
        raise InvalidBundle(
            f"expected coefficients of shape {[len(intercept), n_features]} in bundle {bundle.label},"
            f" got {list(coef.shape)}"
        )
    model = on_device(
        Linear(coef, intercept),
        lambda: _twin(coef, intercept, bundle.manifest.schema.dtype),
        device,
        n_features=n_features,
        n_outputs=len(intercept),
        dtype=bundle.manifest.schema.dtype,
        margin_dtype=LinearBackend.margin_dtype,
    )
    return LinearBackend(model, len(intercept))


def terms_of(bundle: Bundle, arrays: Mapping[str, NDArray[Any]], file: str) -> Terms:
    """The terms in a bundle's arrays; raises ``InvalidBundle`` if the kernel cannot run on them."""
    try:
        terms = Terms.of_arrays(arrays)
    except KeyError as error:
        raise InvalidBundle(f"expected {error} in '{file}' of bundle {bundle.label}") from error
    except (ValueError, TypeError) as error:
        raise InvalidBundle(f"'{file}' of bundle {bundle.label} holds no sound model: {error}") from error
    if wrong := terms.fault(len(bundle.manifest.schema.features)):
        raise InvalidBundle(f"'{file}' of bundle {bundle.label} holds no sound model: {wrong}")
    return terms


def _twin(coef: NDArray[Any], intercept: NDArray[Any], dtype: np.dtype[Any]) -> Kernel:
    from kernels.gpu.linear import GpuLinear

    return GpuLinear(coef, intercept, dtype)
