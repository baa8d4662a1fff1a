"""A network as plain arrays: what an importer writes and the kernel reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kernels.dense.activations import CODES
from kernels.linear.terms import Terms


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """A first layer over raw features, and L later ones.

    Attributes:
        first: As many outputs as the first layer has neurons.
        widths: int64[L + 1], neurons per layer; the last are the outputs.
        weights: float64, the weights [widths[l], widths[l + 1]] of each later layer in a row.
        biases: float64, of each later layer in a row.
        activation: Of all layers but the last: identity, relu, tanh or logistic.
    """

    first: Terms
    widths: NDArray[np.int64]
    weights: NDArray[np.float64]
    biases: NDArray[np.float64]
    activation: str

    @classmethod
    def of_matrices(
        cls,
        first: Terms,
        matrices: Sequence[NDArray[np.float64]],
        biases: Sequence[NDArray[np.float64]],
        activation: str,
    ) -> Self:
        """From the weights [inputs, neurons] and biases [neurons] of each later layer."""
        widths = [len(first.intercept), *(matrix.shape[1] for matrix in matrices)]
        flat = np.concatenate([np.ascontiguousarray(matrix, np.float64).ravel() for matrix in matrices])
        return cls(first, np.array(widths, np.int64), flat, np.concatenate(biases), activation)

    @property
    def code(self) -> int:
        """The activation as the kernel knows it."""
        return CODES[self.activation]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All of it as arrays, as ``numpy.savez`` wants them."""
        return {
            **self.first.arrays(),
            "widths": self.widths,
            "weights": self.weights,
            "biases": self.biases,
            "activation": np.array(self.activation),
        }

    @classmethod
    def of_arrays(cls, first: Terms, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of ``arrays`` beside the first layer; raises ``KeyError``."""
        return cls(
            first, arrays["widths"], arrays["weights"], arrays["biases"], str(arrays["activation"][()])
        )

    def fault(self) -> str | None:
        """What is wrong with them; None if the kernel can run safely."""
        widths = self.widths
        if widths.dtype != np.int64 or widths.ndim != 1 or len(widths) < 2 or (widths < 1).any():
            return "'widths' are not the neurons of two layers or more"
        if widths[0] != len(self.first.intercept):
            return f"the first layer has {len(self.first.intercept)} neurons, not {widths[0]}"
        sizes = {"weights": int((widths[:-1] * widths[1:]).sum()), "biases": int(widths[1:].sum())}
        for name, size in sizes.items():
            array = getattr(self, name)
            if array.dtype != np.float64 or array.shape != (size,):
                return f"'{name}' is {array.dtype}{list(array.shape)}, not float64[{size}]"
        return None if self.activation in CODES else f"an activation '{self.activation}'"
