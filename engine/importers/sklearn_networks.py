"""scikit-learn's multi-layer perceptrons: weights, activations and link out of a fitted object.

All in float64, whatever the network was trained in. Margins equal scikit-learn's up to the order of sums,
which it leaves to BLAS, and 2 ulp per tanh or logistic neuron.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from engine.bundle import Link, npz
from engine.errors import UnsupportedModel
from engine.importers.imported import DENSE, Imported
from engine.importers.sklearn_features import features_of
from engine.schema import Output
from kernels.dense.activations import CODES
from kernels.dense.layers import Layers
from kernels.linear.terms import Terms
from kernels.linear.transforms import Transform

MOST_WEIGHTS = 1 << 20
"""Weights of a network that the kernel still serves; a matrix library is faster for larger ones."""
LINKS: dict[str, Literal["identity", "sigmoid", "softmax", "exp"]] = {
    "identity": "identity",
    "logistic": "sigmoid",
    "softmax": "softmax",
    "exp": "exp",
}
"""The link of scikit-learn's output activation."""


def _network(model: Any) -> Imported:
    name = type(model).__name__
    n_weights = sum(matrix.size for matrix in model.coefs_)
    if n_weights > MOST_WEIGHTS:
        raise UnsupportedModel(
            f"{name} has {n_weights} weights, more than the {MOST_WEIGHTS} of a small network; convert it"
            " with skl2onnx and pack the ONNX graph"
        )
    if model.activation not in CODES or model.out_activation_ not in LINKS:
        raise UnsupportedModel(
            f"{name} with activations {model.activation} and {model.out_activation_} is not represented"
            " exactly; convert it with skl2onnx and pack the ONNX graph"
        )
    return Imported(
        kind="dense",
        files={DENSE: npz(_layers(model).arrays())},
        features=features_of(model, required=True),
        block="float64",
        output=Output(labels=_labels(model)),
        link=Link(LINKS[model.out_activation_]),
        library="sklearn",
        objective=name,
    )


READERS: dict[str, Callable[[Any], Imported]] = {"MLPClassifier": _network, "MLPRegressor": _network}
"""By class name."""


def _layers(model: Any) -> Layers:
    matrices = [np.asarray(matrix, np.float64) for matrix in model.coefs_]
    biases = [np.asarray(bias, np.float64) for bias in model.intercepts_]
    n_features = len(matrices[0])
    first = Terms(
        np.ascontiguousarray(matrices[0].T), biases[0], range(n_features), [Transform()] * n_features
    )
    return Layers.of_matrices(first, matrices[1:], biases[1:], model.activation)


def _labels(model: Any) -> tuple[str, ...]:
    if model.n_outputs_ == 1:
        return ()
    classes = getattr(model, "classes_", range(model.n_outputs_))
    return tuple(str(label) for label in classes)
