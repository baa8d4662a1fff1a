"""Multi-layer perceptrons: the first layer is a linear model, the others follow row by row.

A neuron's sum is ``(0 + a[0] * w[0] + a[1] * w[1] + …) + bias``, every product and every sum rounded to
float64, in this order, never by a matrix library: so a row's score depends neither on its neighbours nor on
how many there are. Several neurons are added up at once, because they lie side by side in ``weights``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import kernel
from kernels.dense.activations import activated
from kernels.dense.layers import Layers
from kernels.forests.hints import wide_vectors
from kernels.linear.model import Linear

BLOCK_ROWS = 4096
"""Rows whose first layer is kept in memory at once."""


@kernel
def add_layers(
    first: NDArray[np.float64],
    widths: NDArray[np.int64],
    weights: NDArray[np.float64],
    biases: NDArray[np.float64],
    activation: int,
    out: NDArray[np.float64],
) -> None:
    """Write the margins of rows to ``out``.

    Args:
        first: C-order float64[n, widths[0]], the sums of the first layer; overwritten.
        widths: int64[L + 1], neurons per layer.
        weights: float64, the weights [widths[l], widths[l + 1]] of each later layer, C-order, in a row.
        biases: float64, of each later layer.
        activation: Of all layers but the last, as in ``activations``.
        out: C-order float64[n, widths[L]].
    """
    wide_vectors()
    widest = widths.max()
    values, sums = np.empty(widest), np.empty(widest)
    for row in range(len(first)):
        for i in range(widths[0]):
            values[i] = activated(first[row, i], activation)
        weight, bias = 0, 0
        for layer in range(1, len(widths)):
            n_inputs, n_neurons = widths[layer - 1], widths[layer]
            sums[:n_neurons] = 0.0
            for i in range(n_inputs):
                value = values[i]
                line = weights[weight : weight + n_neurons]
                for neuron in range(n_neurons):
                    sums[neuron] += value * line[neuron]
                weight += n_neurons
            for neuron in range(n_neurons):
                sums[neuron] += biases[bias + neuron]
            bias += n_neurons
            if layer + 1 < len(widths):
                for neuron in range(n_neurons):
                    values[neuron] = activated(sums[neuron], activation)
        for k in range(out.shape[1]):
            out[row, k] = sums[k]


class Network:
    """A network ready to be scored. Calls may run at the same time in several threads."""

    name = "dense"

    def __init__(self, layers: Layers, n_features: int) -> None:
        """A network over ``n_features`` columns."""
        self._first = Linear.of_terms(layers.first, n_features)
        self._widths = layers.widths
        self._layers = (layers.widths, layers.weights, layers.biases, layers.code)

    def score_rows(self, X: NDArray[Any], out: NDArray[np.float64]) -> None:
        """Write the margins of ``X``, C-order float32 or float64[n, F], to ``out``, C-order float64[n, K]."""
        for start in range(0, len(X), BLOCK_ROWS):
            block = X[start : start + BLOCK_ROWS]
            sums = np.empty((len(block), self._widths[0]))
            self._first.score_rows(block, sums)
            add_layers(sums, *self._layers, out[start : start + BLOCK_ROWS])

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[np.float64]) -> None:
        """The same for F contiguous columns of n values of one type; NaN is missing."""
        for start in range(0, len(out), BLOCK_ROWS):
            block = [column[start : start + BLOCK_ROWS] for column in columns]
            rows = out[start : start + BLOCK_ROWS]
            sums = np.empty((len(rows), self._widths[0]))
            self._first.score_columns(block, sums)
            add_layers(sums, *self._layers, rows)
