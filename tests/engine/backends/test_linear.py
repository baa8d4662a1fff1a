"""A linear bundle that does not fit its schema is refused when it is loaded."""

import numpy as np
import pytest

from engine.backends.linear import load
from engine.bundle import Bundle, Link, Manifest, Provenance, npz
from engine.errors import InvalidBundle
from engine.schema import Feature, Schema


def bundle(arrays: dict[str, np.ndarray]) -> Bundle:
    manifest = Manifest("line", "linear", Schema((Feature("a"), Feature("b"))), Link(), Provenance("test"))
    return Bundle(manifest, "0" * 64, {"linear.npz": npz(arrays)})


def test_margins_are_sums_of_products() -> None:
    backend = load(bundle({"coef": np.array([[2.0, -1.0]]), "intercept": np.array([0.5])}))
    out = np.empty((2, 1))
    backend.score_rows(np.array([[1.0, 2.0], [3.0, 4.0]]), out)
    assert out.tolist() == [[0.5], [2.5]]
    backend.score_columns((np.array([1.0, 3.0]), np.array([2.0, 4.0])), out)
    assert out.tolist() == [[0.5], [2.5]]


def test_coefficients_of_another_shape_are_refused() -> None:
    with pytest.raises(InvalidBundle, match=r"expected coefficients of shape \[1, 2\] .*, got \[1, 3\]"):
        load(bundle({"coef": np.zeros((1, 3)), "intercept": np.zeros(1)}))


def test_a_bundle_without_intercept_is_refused() -> None:
    with pytest.raises(InvalidBundle, match=r"expected 'intercept' in 'linear.npz' of bundle line@"):
        load(bundle({"coef": np.zeros((1, 2))}))
