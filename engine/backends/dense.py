"""Small neural networks on the dense kernel; always on the CPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.linear import terms_of
from engine.bundle import Bundle, Device
from engine.errors import InvalidBundle
from kernels.dense.layers import Layers
from kernels.dense.network import Network

FILE = "dense.npz"


class DenseBackend:
    """A network of dense layers."""

    name = Network.name
    margin_dtype = np.dtype(np.float64)

    def __init__(self, layers: Layers, n_features: int) -> None:
        self.n_outputs = int(layers.widths[-1])
        self._network = Network(layers, n_features)

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the margins of a C-order block [n, F] to ``out``, C-order [n, K]."""
        self._network.score_rows(X, out)

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for F contiguous columns of n values each."""
        self._network.score_columns(columns, out)


def load(bundle: Bundle, device: Device = "cpu") -> DenseBackend:
    """The backend of a bundle of kind ``dense``; raises ``InvalidBundle``."""
    del device
    arrays = bundle.arrays(FILE)
    try:
        layers = Layers.of_arrays(terms_of(bundle, arrays, FILE), arrays)
    except KeyError as error:
        raise InvalidBundle(f"expected {error} in '{FILE}' of bundle {bundle.label}") from error
    if wrong := layers.fault():
        raise InvalidBundle(f"'{FILE}' of bundle {bundle.label} holds no sound network: {wrong}")
    return DenseBackend(layers, len(bundle.manifest.schema.features))
