"""``exp`` in plain float64 arithmetic: the same bits on every machine, in a vector or alone.

The C library's ``exp`` is a call per value and rounds differently from one processor to the
next. Here every step is an addition, a product or a shift, so the compiler may work on as many
values at once as it likes. Reduction and series: W. J. Cody and W. Waite, *Software Manual for the
Elementary Functions*, 1980; coefficients by the Remez algorithm on |r| <= ln(2)/2, relative
error of the series 2^-57.
"""

import numpy as np

from kernels.compiler import inlined

LOG2_E = 1.4426950408889634
LN2_HIGH = 0.693147180559663
"""ln(2) to 41 bits, so that its product with a whole number up to 2^11 is exact."""
LN2_LOW = 2.8235290563031577e-13
ROUND = 6755399441055744.0
"""1.5 * 2^52: added to a smaller number it rounds it to a whole one, found in the last bits."""
HIGHEST = 709.782712893384
"""The largest number whose exponential is finite."""
LOWEST = -746.0
"""Below it an exponential rounds to 0."""


@inlined
def exp_scaled(x: float, x_low: float) -> tuple[float, float, np.int64]:
    """``exp(x + x_low)`` as ``(high + low) * 2**power``.

    Args:
        x: float64 from ``LOWEST`` to ``HIGHEST``; NaN gives NaN.
        x_low: What rounding took from ``x``; tiny beside it.

    Returns:
        high in [0.7, 1.42], low (at most half an ulp of high), power. Together within 0.15 ulp of high.
    """
    shifted = x * LOG2_E + ROUND
    power = shifted - ROUND
    coarse = x - power * LN2_HIGH
    tail = power * LN2_LOW - x_low
    r = coarse - tail
    r_low = (coarse - r) - tail
    p = 2.762545788719947e-07 + r * 2.511513199208306e-08
    p = 2.7557225986695547e-06 + r * p
    p = 2.4801508002567894e-05 + r * p
    p = 0.00019841269904989148 + r * p
    p = 0.0013888888927334054 + r * p
    p = 0.0083333333333139 + r * p
    p = 0.041666666666602646 + r * p
    p = 0.16666666666666685 + r * p
    rest = r * r * (0.5 + r * p) + (r_low + r_low * r)
    series = r + rest
    high = 1.0 + series
    low = ((1.0 - high) + series) + ((r - series) + rest)
    return high, low, np.int64(power)


@inlined
def halves_of_power(power: np.int64) -> tuple[float, float]:
    """Two numbers whose product is ``2**power``, for powers too far down to be one float64."""
    half = power >> 1
    rest = power - half
    return np.int64((half + 1023) << 52).view(np.float64), np.int64((rest + 1023) << 52).view(np.float64)


@inlined
def exp(x: float) -> float:
    """``exp(x)`` of a float64, within 0.7 ulp; overflows to inf, underflows gradually to 0; NaN stays."""
    high, low, power = exp_scaled(min(max(x, LOWEST), HIGHEST), 0.0)
    first, second = halves_of_power(power)
    y = (high + low) * first * second
    if x > HIGHEST:
        y = np.inf
    return x if np.isnan(x) else y


@inlined
def expm1(x: float) -> float:
    """``exp(x) - 1`` of a float64, exact also near 0; overflows to inf; NaN stays."""
    high, low, power = exp_scaled(min(max(x, LOWEST), HIGHEST), 0.0)
    first, second = halves_of_power(power)
    y = (high * first * second - 1.0) + low * first * second
    if x > HIGHEST:
        y = np.inf
    return x if np.isnan(x) or x == 0.0 else y
