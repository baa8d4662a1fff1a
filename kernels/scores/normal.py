"""Quantiles of the normal distribution in plain float64 arithmetic: the same bits on every machine.

The rational approximations of ``ndtri`` in S. L. Moshier's *Cephes* library (1989), which SciPy uses too. Its
third one, for shares closer than 1e-14 to 0 or 1, is left out.
"""

import math

from kernels.compiler import inlined
from kernels.scores.logarithm import log

TAIL = 0.13533528323661269189
"""exp(-2): shares closer than this to 0 or 1 have an approximation of their own."""
ROOT_2_PI = 2.50662827463100050242


@inlined
def normal_quantile(share: float) -> float:
    """The number below which a share (float64, from 1e-14 to 1 - 1e-14) of a normal distribution lies.

    Within 5 ulp; NaN stays.
    """
    above = share > 1.0 - TAIL
    tail = 1.0 - share if above else share
    if not tail <= TAIL:
        return middle(share - 0.5)
    y = far(tail)
    return y if above else -y


@inlined
def middle(y: float) -> float:
    """The quantile of ``0.5 + y``."""
    z = y * y
    p = -5.99633501014107895267e1 * z + 9.80010754185999661536e1
    p = p * z - 5.66762857469070293439e1
    p = p * z + 1.39312609387279679503e1
    p = p * z - 1.23916583867381258016e0
    q = z + 1.95448858338141759834e0
    q = q * z + 4.67627912898881538453e0
    q = q * z + 8.63602421390890590575e1
    q = q * z - 2.25462687854119370527e2
    q = q * z + 2.00260212380060660359e2
    q = q * z - 8.20372256168333339912e1
    q = q * z + 1.59056225126211695515e1
    q = q * z - 1.18331621121330003142e0
    return (y + y * (z * p / q)) * ROOT_2_PI


@inlined
def far(share: float) -> float:
    """Minus the quantile of a share from 1e-14 to ``TAIL``."""
    x = math.sqrt(-2.0 * log(share))
    z = 1.0 / x
    p = 4.05544892305962419923e0 * z + 3.15251094599893866154e1
    p = p * z + 5.71628192246421288162e1
    p = p * z + 4.40805073893200834700e1
    p = p * z + 1.46849561928858024014e1
    p = p * z + 2.18663306850790267539e0
    p = p * z - 1.40256079171354495875e-1
    p = p * z - 3.50424626827848203418e-2
    p = p * z - 8.57456785154685413611e-4
    q = z + 1.57799883256466749731e1
    q = q * z + 4.53907635128879210584e1
    q = q * z + 4.13172038254672030440e1
    q = q * z + 1.50425385692907503408e1
    q = q * z + 2.50464946208309415979e0
    q = q * z - 1.42182922854787788574e-1
    q = q * z - 3.80806407691578277194e-2
    q = q * z - 9.33259480895457427372e-4
    return (x - log(x) / x) - z * (p / q)
