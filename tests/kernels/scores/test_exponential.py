"""expm1 is exact to rounding near 0 and far from it."""

import math
from decimal import Decimal, localcontext

from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from kernels.scores.exponential import expm1


@njit
def compiled(x):
    return expm1(x)


@settings(deadline=None, max_examples=500)
@given(st.one_of(st.floats(-750, 709.7), st.floats(-1, 1), st.floats(-1e-300, 1e-300)))
def test_expm1_is_within_two_units_in_the_last_place(x):
    with localcontext(prec=400):
        exact = Decimal(x).exp() - 1
        assert abs(Decimal(compiled(x)) - exact) <= 2 * Decimal(math.ulp(float(exact)))


def test_its_ends():
    assert compiled(math.inf) == compiled(710.0) == math.inf
    assert compiled(-math.inf) == compiled(-800.0) == -1.0
    assert math.isnan(compiled(math.nan))
    assert math.copysign(1, compiled(-0.0)) == -1
