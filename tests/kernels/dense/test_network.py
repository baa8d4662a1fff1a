import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.dense.layers import Layers
from kernels.dense.network import BLOCK_ROWS, Network
from kernels.linear.terms import Terms
from kernels.linear.transforms import Transform


def drawn(widths: list[int], n_features: int, activation: str, seed: int) -> Layers:
    random = np.random.default_rng(seed)
    first = Terms(
        random.normal(size=(widths[0], n_features)), random.normal(size=widths[0]), range(n_features),
        [Transform()] * n_features,
    )  # fmt: skip
    pairs = list(pairwise(widths))
    matrices = [random.normal(size=pair) for pair in pairs]
    return Layers.of_matrices(first, matrices, [random.normal(size=width) for _, width in pairs], activation)


def margins_of_row(layers: Layers, row: list[float]) -> list[float]:
    """The definition in plain Python, for relu: sums in order, then the bias."""
    weights, biases = layers.weights.tolist(), layers.biases.tolist()
    values = [
        neuron(row, line, bias)
        for line, bias in zip(layers.first.coef.tolist(), layers.first.intercept.tolist(), strict=True)
    ]
    for n_inputs, n_neurons in zip(layers.widths[:-1], layers.widths[1:], strict=True):
        values = [0.0 if value < 0 else value for value in values]
        matrix, weights = weights[: n_inputs * n_neurons], weights[n_inputs * n_neurons :]
        bias, biases = biases[:n_neurons], biases[n_neurons:]
        values = [neuron(values, matrix[k::n_neurons], bias[k]) for k in range(n_neurons)]
    return values


def neuron(values: list[float], weights: list[float], bias: float) -> float:
    total = 0.0
    for value, weight in zip(values, weights, strict=True):
        total += value * weight
    return total + bias


def by_rows(network: Network, X: NDArray[np.generic], n_outputs: int) -> NDArray[np.float64]:
    out = np.empty((len(X), n_outputs))
    network.score_rows(X, out)
    return out


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.integers(1, 6), st.integers(0, 2**30))
def test_margins_are_sums_in_order_layer_after_layer(widths: list[int], n_features: int, seed: int) -> None:
    layers = drawn(widths, n_features, "relu", seed)
    X = np.random.default_rng(seed).normal(size=(5, n_features))
    expected = [margins_of_row(layers, row) for row in X.tolist()]
    np.testing.assert_array_equal(by_rows(Network(layers, n_features), X, widths[-1]), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_a_row_has_the_same_bits_at_either_door_and_in_any_batch(activation: str, dtype: type) -> None:
    network = Network(drawn([33, 17, 3], 12, activation, 0), 12)
    X: NDArray[np.generic] = np.random.default_rng(1).normal(size=(BLOCK_ROWS + 77, 12)).astype(dtype)
    whole = by_rows(network, X, 3)
    columns = np.empty_like(whole)
    network.score_columns([np.ascontiguousarray(column) for column in X.T], columns)
    assert columns.tobytes() == whole.tobytes()
    for n in (1, 7, 64, 1025):
        assert by_rows(network, X[:n].copy(), 3).tobytes() == whole[:n].tobytes()
        assert by_rows(network, X[-n:].copy(), 3).tobytes() == whole[-n:].tobytes()


def test_a_missing_feature_makes_its_row_missing_and_no_other() -> None:
    got = by_rows(Network(drawn([4, 1], 2, "relu", 2), 2), np.array([[1.0, math.nan], [1.0, 2.0]]), 1)
    assert math.isnan(got[0, 0])
    assert math.isfinite(got[1, 0])


def test_no_rows_are_no_margins() -> None:
    assert by_rows(Network(drawn([4, 1], 2, "relu", 2), 2), np.empty((0, 2)), 1).shape == (0, 1)
