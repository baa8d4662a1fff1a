"""A dense bundle that does not fit its schema, or itself, is refused when it is loaded."""

import numpy as np
import pytest

from engine.backends.dense import load
from engine.bundle import Bundle, Link, Manifest, Provenance, npz
from engine.errors import InvalidBundle
from engine.schema import Feature, Schema
from kernels.dense.layers import Layers
from kernels.linear.terms import Terms
from kernels.linear.transforms import Transform


def arrays() -> dict[str, np.ndarray]:
    first = Terms(np.array([[1.0, -1.0], [2.0, 0.0]]), np.zeros(2), [0, 1], [Transform()] * 2)
    return Layers.of_matrices(first, [np.array([[1.0], [10.0]])], [np.array([0.5])], "relu").arrays()


def bundle(content: dict[str, np.ndarray]) -> Bundle:
    manifest = Manifest("net", "dense", Schema((Feature("a"), Feature("b"))), Link(), Provenance("test"))
    return Bundle(manifest, "0" * 64, {"dense.npz": npz(content)})


def test_margins_are_sums_of_what_the_first_layer_lets_through() -> None:
    backend = load(bundle(arrays()))
    out = np.empty((2, 1))
    backend.score_rows(np.array([[3.0, 1.0], [1.0, 3.0]]), out)
    assert out.tolist() == [[62.5], [20.5]]
    backend.score_columns([np.array([3.0, 1.0]), np.array([1.0, 3.0])], out)
    assert out.tolist() == [[62.5], [20.5]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"widths": np.array([2])}, "two layers or more"),
        ({"widths": np.array([3, 1])}, "first layer has 2 neurons, not 3"),
        ({"weights": np.ones(3)}, r"'weights' is float64\[3\], not float64\[2\]"),
        ({"biases": np.ones(1, np.float32)}, "'biases' is float32"),
        ({"activation": np.array("swish")}, "activation 'swish'"),
        ({"term_source": np.array([0, 2])}, "feature 2"),
    ],
)
def test_layers_that_do_not_fit_are_refused(change: dict[str, np.ndarray], sentence: str) -> None:
    with pytest.raises(InvalidBundle, match=sentence):
        load(bundle({**arrays(), **change}))


@pytest.mark.parametrize("name", sorted(arrays()))
def test_a_bundle_without_one_of_its_arrays_is_refused(name: str) -> None:
    content = {key: array for key, array in arrays().items() if key != name}
    with pytest.raises(InvalidBundle, match=f"expected '{name}'"):
        load(bundle(content))
