"""What stands between two layers: relu, tanh, logistic or nothing, in plain float64 arithmetic.

The same bits on every machine. tanh lies within 2 ulp of the exact value; below 0.625 its rational
approximation is the one of S. L. Moshier's *Cephes* library (1989), above it 1 - 2 / (exp(2x) + 1). The
logistic is the link's (``kernels.scores.links``), within 0.8 ulp.
"""

import numpy as np

from kernels.compiler import inlined
from kernels.scores.exponential import exp
from kernels.scores.links import sigmoid

IDENTITY, RELU, TANH, LOGISTIC = 0, 1, 2, 3
CODES = {"identity": IDENTITY, "relu": RELU, "tanh": TANH, "logistic": LOGISTIC}
"""scikit-learn's names."""


@inlined
def activated(x: float, activation: int) -> float:
    """A number (float64) after an activation; NaN stays NaN."""
    if activation == RELU:
        return 0.0 if x < 0.0 else x
    if activation == TANH:
        return tanh(x)
    if activation == LOGISTIC:
        return sigmoid(x)
    return x


@inlined
def tanh(x: float) -> float:
    """The hyperbolic tangent of a float64, within 2 ulp; 1 and -1 from about 19 on."""
    z = x * x
    p = -9.64399179425052238628e-1 * z - 9.92877231001918586564e1
    p = p * z - 1.61468768441708447952e3
    q = z + 1.12811678491632931402e2
    q = q * z + 2.23548839060100448583e3
    q = q * z + 4.84406305325125486048e3
    near = x + x * (z * (p / q))
    far = 1.0 - 2.0 / (exp(2.0 * abs(x)) + 1.0)
    y = near if abs(x) < 0.625 else (far if x > 0.0 else -far)
    return x if np.isnan(x) else y
