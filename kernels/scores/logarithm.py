"""``log`` and ``log1p`` in plain float64 arithmetic: the same bits on every machine, in a vector or alone.

Reduction to [sqrt(1/2), sqrt(2)] and series in ``f / (2 + f)`` as in the C library of FreeBSD
(``e_log.c`` and ``s_log1p.c``, Sun Microsystems 1993). Within 0.9 ulp.
"""

import numpy as np

from kernels.compiler import inlined
from kernels.scores.exponential import LN2_HIGH, LN2_LOW

SQRT_HALF = 0x3FE6A09E667F3BCD
"""The bits of sqrt(1/2)."""
ONE = 0x3FF0000000000000
"""The bits of 1."""
MANTISSA = 0x000FFFFFFFFFFFFF
SMALLEST_NORMAL = 2.2250738585072014e-308


@inlined
def log(x: float) -> float:
    """The natural logarithm of a float64: -inf of 0, NaN below and of NaN."""
    tiny = x < SMALLEST_NORMAL
    scaled = x * 18014398509481984.0 if tiny else x
    power, fraction = split(scaled)
    y = log_of_parts(power - 54.0 if tiny else power, fraction - 1.0, 0.0)
    return ends(x, x, y)


@inlined
def log1p(x: float) -> float:
    """``log(1 + x)`` of a float64, exact also near 0: -inf of -1, NaN below and of NaN."""
    u = 1.0 + x
    power, fraction = split(u)
    lost = x - (u - 1.0) if x < 1.0 else 1.0 - (u - x)
    near = power == 0.0
    f = x if near else fraction - 1.0
    y = log_of_parts(power, f, 0.0 if near else lost / u)
    return ends(x, u, y)


@inlined
def split(x: float) -> tuple[float, float]:
    """A positive normal ``x`` as ``fraction * 2**power``, the fraction from sqrt(1/2) to sqrt(2)."""
    bits = np.float64(x).view(np.int64)
    shifted = bits + (ONE - SQRT_HALF)
    power = (shifted >> 52) - 1023
    fraction = np.int64((shifted & MANTISSA) + SQRT_HALF).view(np.float64)
    return np.float64(power), fraction


@inlined
def log_of_parts(power: float, f: float, low: float) -> float:
    """``power * ln(2) + log(1 + f) + low``; ``1 + f`` is a fraction of ``split``."""
    s = f / (2.0 + f)
    z = s * s
    p = 1.531383769920937332e-01 + z * 1.479819860511658591e-01
    p = 1.818357216161805012e-01 + z * p
    p = 2.222219843214978396e-01 + z * p
    p = 2.857142874366239149e-01 + z * p
    p = 3.999999999940941908e-01 + z * p
    p = 6.666666666666735130e-01 + z * p
    half_square = 0.5 * f * f
    return power * LN2_HIGH - ((half_square - (s * (half_square + z * p) + (power * LN2_LOW + low))) - f)


@inlined
def ends(x: float, argument: float, y: float) -> float:
    """``y``, or what the logarithm is where ``split`` does not hold."""
    if argument == 0.0:
        y = -np.inf
    if argument < 0.0:
        y = np.nan
    return x if np.isnan(x) or x == np.inf else y
