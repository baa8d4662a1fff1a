"""Quantiles of the normal distribution lie within their bound of the exact ones."""

import math
from decimal import Decimal, localcontext

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtri

from kernels.scores.normal import TAIL, normal_quantile

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
shares = st.one_of(
    st.floats(1e-14, 1 - 1e-14),
    st.floats(-14, -0.1).map(lambda power: 10.0**power),
    st.floats(-14, -0.1).map(lambda power: 1 - 10.0**power),
    st.sampled_from([0.5, TAIL, 1 - TAIL, math.nextafter(TAIL, 0), math.nextafter(0.5, 1)]),
)


@njit(error_model="numpy")
def compiled(share):
    return normal_quantile(share)


@njit(error_model="numpy")
def each(share: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for i in range(len(share)):
        out[i] = normal_quantile(share[i])


def density(y: Decimal) -> Decimal:
    return (-y * y / 2).exp() / (2 * PI).sqrt()


def below(y: Decimal) -> Decimal:
    """The share below y: 1/2 + density(y) * (y + y^3 / 3 + y^5 / (3 * 5) + …)."""
    term = total = y
    n = 1
    while abs(term) > Decimal("1e-75"):
        n += 2
        term *= y * y / n
        total += term
    return Decimal("0.5") + density(y) * total


@settings(deadline=None, max_examples=300)
@given(shares)
def test_a_quantile_is_within_5_ulp_of_the_exact_one(share: float) -> None:
    got = compiled(share)
    with localcontext(prec=80):
        y = Decimal(got)
        exact = y - (below(y) - Decimal(share)) / density(y)  # one step of Newton's; the next is below 1e-30
        assert abs(y - exact) <= 5 * Decimal(math.ulp(float(exact)))


def test_quantiles_are_scipys_up_to_rounding() -> None:
    random = np.random.default_rng(0)
    tails = 10 ** -random.uniform(0.1, 14, 50_000)
    share = np.concatenate([random.random(50_000), tails, 1 - tails])
    out = np.empty_like(share)
    each(share, out)
    np.testing.assert_allclose(out, ndtri(share), rtol=2e-15)


def test_a_missing_share_has_no_quantile_and_half_has_0() -> None:
    assert math.isnan(compiled(math.nan))
    assert compiled(0.5) == 0.0
