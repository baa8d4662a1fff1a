import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.compiler import kernel
from kernels.dense.activations import CODES, activated


@kernel
def apply(values: NDArray[np.float64], activation: int, out: NDArray[np.float64]) -> None:
    for i in range(len(values)):
        out[i] = activated(values[i], activation)


def applied(values: object, name: str) -> NDArray[np.float64]:
    numbers = np.array(values, np.float64)
    out = np.empty_like(numbers)
    apply(numbers, CODES[name], out)
    return out


def test_tanh_is_within_2_ulp() -> None:
    random = np.random.default_rng(0)
    x = np.concatenate(
        [random.normal(size=200_000), np.linspace(-25, 25, 100_001), 10.0 ** -random.uniform(0, 300, 9999)]
    )
    exact = np.tanh(x.astype(np.longdouble))
    ulps = np.abs(applied(x, "tanh") - exact) / np.spacing(np.abs(exact.astype(np.float64)))
    assert ulps.max() <= 2


@settings(deadline=None)
@given(st.floats(allow_nan=False))
def test_tanh_is_odd_and_stays_between_its_limits(x: float) -> None:
    here, there = applied([x, -x], "tanh").tolist()
    assert here == -there
    assert -1 <= here <= 1


@pytest.mark.parametrize("name", CODES)
def test_a_missing_number_stays_missing(name: str) -> None:
    assert math.isnan(applied([math.nan], name)[0])


def test_the_ends_of_each_activation() -> None:
    ends = [-math.inf, -1.0, 0.0, 2.0, math.inf]
    assert applied(ends, "relu").tolist() == [0.0, 0.0, 0.0, 2.0, math.inf]
    assert applied(ends, "identity").tolist() == ends
    assert applied(ends, "tanh")[[0, 2, 4]].tolist() == [-1.0, 0.0, 1.0]
    assert applied(ends, "logistic")[[0, 2, 4]].tolist() == [0.0, 0.5, 1.0]
