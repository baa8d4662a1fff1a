import math
from decimal import Context, Decimal, localcontext

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray

from kernels.scores.exponential import exp
from kernels.scores.logarithm import log, log1p
from tests.reference import ulps

ULP = 0.9
PRECISE = Context(prec=60, Emin=-9999, Emax=9999)
positive = st.floats(5e-324, 1.7e308) | st.floats(0.5, 2.0) | st.floats(0.999, 1.001)


@njit(error_model="numpy")
def logs(values: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for i in range(len(values)):
        out[i] = log(values[i])


@njit(error_model="numpy")
def log1ps(values: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for i in range(len(values)):
        out[i] = log1p(values[i])


@njit(error_model="numpy")
def exps(values: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for i in range(len(values)):
        out[i] = exp(values[i])


def each(function: object, *values: float) -> list[float]:
    out = np.empty(len(values))
    function(np.array(values), out)
    return out.tolist()


@settings(deadline=None)  # the first call compiles
@given(positive)
def test_a_logarithm_is_within_its_bound_of_the_exact_value(x: float) -> None:
    with localcontext(PRECISE):
        assert ulps(each(logs, x)[0], Decimal(x).ln()) <= ULP


@settings(deadline=None)
@given(st.floats(-0.9999999999999999, 5) | st.floats(-1e-3, 1e-3) | st.floats(0, 1.7e308))
def test_log1p_is_within_its_bound_of_the_exact_value(x: float) -> None:
    with localcontext(Context(prec=400, Emin=-9999, Emax=9999)):
        assert ulps(each(log1ps, x)[0], (1 + Decimal(x)).ln()) <= ULP


def test_logarithms_at_the_ends_of_the_axis() -> None:
    assert each(logs, 0.0, -0.0, math.inf, 1.0) == [-math.inf, -math.inf, math.inf, 0.0]
    assert each(log1ps, -1.0, math.inf, 0.0, 5e-324) == [-math.inf, math.inf, 0.0, 5e-324]
    assert np.isnan(each(logs, -1.0, -5e-324, -math.inf, math.nan)).all()
    assert np.isnan(each(log1ps, math.nextafter(-1, -2), -math.inf, math.nan)).all()


def test_a_value_has_the_same_bits_in_a_vector_and_alone() -> None:
    values = np.random.default_rng(0).uniform(-0.99, 50, 131)
    for function in (logs, log1ps, exps):
        alone = [each(function, x)[0] for x in values.tolist()]
        np.testing.assert_array_equal(each(function, *values.tolist()), alone)
