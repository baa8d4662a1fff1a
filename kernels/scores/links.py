"""From margins to scores: identity, sigmoid, softmax, exp.

Within 0.8 ulp of the exact value for the margins given (identity is exact). A score's bits depend on its
row's margins alone, not on how many rows there are, the row's place or the machine: all is plain float64
arithmetic, for float32 too, where only the result is rounded. Libraries round more often: the sigmoids of
LightGBM and XGBoost lie within 2 ulp of these (XGBoost's stops at a margin of -88.7, with 3e-39), their
softmaxes within 2e-15 and, in float32, 1e-5.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.compiler import entry, inlined, kernel
from kernels.forests.hints import wide_vectors
from kernels.scores.exponential import LOWEST, exp, exp_scaled, halves_of_power

SPLIT = 134217729.0
"""2^27 + 1: T. J. Dekker's constant, halving the bits of a float64."""


def apply_link(name: str, scale: float, margins: NDArray[Any], out: NDArray[Any]) -> None:
    """Write the scores of ``margins`` to ``out``, which may be the same array.

    Args:
        name: ``identity``; ``sigmoid``, 1 / (1 + exp(-scale * margin)), the product rounded;
            ``softmax`` over the outputs of a row; ``exp``. A NaN margin gives a NaN score.
        scale: Used by ``sigmoid`` only.
        margins: float32 or float64, C-order[n, K].
        out: float32 or float64, C-order[n, K].
    """
    if name == "identity":
        out[...] = margins
    elif name == "sigmoid":
        sigmoids(scale, margins, out)
    elif name == "exp":
        exps(margins, out)
    else:
        softmaxes(margins, out)


def link_between(
    name: str, scale: float, margin_dtype: DTypeLike, score_dtype: DTypeLike
) -> Callable[[NDArray[Any], NDArray[Any]], None]:
    """``apply_link`` for writable arrays of known types, which spares one row two thirds of the call."""
    margins, out = np.empty((1, 1), margin_dtype), np.empty((1, 1), score_dtype)
    if name == "identity":
        return functools.partial(apply_link, name, scale)
    if name == "sigmoid":
        return functools.partial(entry(sigmoids, float(scale), margins, out), float(scale))
    return entry(exps if name == "exp" else softmaxes, margins, out)


@kernel
def sigmoids(scale: float, margins: NDArray[Any], out: NDArray[Any]) -> None:
    """The sigmoid of each margin, both arrays C-order[n, K]."""
    wide_vectors()
    flat, flat_out = margins.reshape(margins.size), out.reshape(out.size)
    if flat.ctypes.data == flat_out.ctypes.data:
        # Where nothing else can overlap, the compiler uses vectors.
        for i in range(len(flat_out)):
            flat_out[i] = sigmoid(scale * np.float64(flat_out[i]))
        return
    for i in range(len(flat)):
        flat_out[i] = sigmoid(scale * np.float64(flat[i]))


@kernel
def exps(margins: NDArray[Any], out: NDArray[Any]) -> None:
    """The exponential of each margin, both arrays C-order[n, K]."""
    wide_vectors()
    flat, flat_out = margins.reshape(margins.size), out.reshape(out.size)
    if flat.ctypes.data == flat_out.ctypes.data:
        for i in range(len(flat_out)):
            flat_out[i] = exp(np.float64(flat_out[i]))
        return
    for i in range(len(flat)):
        flat_out[i] = exp(np.float64(flat[i]))


@kernel
def softmaxes(margins: NDArray[Any], out: NDArray[Any]) -> None:
    """The softmax of each row, both arrays [n, K]."""
    for row in range(margins.shape[0]):
        highest = largest(margins, row)
        total, total_low = 0.0, 0.0
        for k in range(margins.shape[1]):
            high, low, first, second = exp_less(np.float64(margins[row, k]), highest)
            e = high * first * second
            added = total + e
            back = added - total
            total_low += (total - (added - back)) + (e - back) + low * first * second
            total = added
        for k in range(margins.shape[1]):
            high, low, first, second = exp_less(np.float64(margins[row, k]), highest)
            out[row, k] = quotient(high, low, total, total_low) * first * second


@inlined
def sigmoid(z: float) -> float:
    """``1 / (1 + exp(-z))``: 1 / (1 + e) or e / (1 + e) with ``e = exp(-|z|)``, so that nothing overflows."""
    high, low, power = exp_scaled(max(-abs(z), LOWEST), 0.0)
    first, second = halves_of_power(power)
    e = high * first * second
    total = 1.0 + e
    total_low = (1.0 - total) + e + low * first * second
    if z >= 0.0:
        high, low, first, second = 1.0, 0.0, 1.0, 1.0
    y = quotient(high, low, total, total_low) * first * second
    return z if np.isnan(z) else y


@inlined
def exp_less(x: float, highest: float) -> tuple[float, float, float, float]:
    """``exp(x - highest)`` for ``x <= highest``, as ``(high + low) * first * second``."""
    difference = x - highest
    back = difference - x
    lost = (x - (difference - back)) - (highest + back)
    high, low, power = exp_scaled(max(difference, LOWEST), lost if difference > LOWEST else 0.0)
    first, second = halves_of_power(power)
    return high, low, first, second


@inlined
def quotient(a: float, a_low: float, b: float, b_low: float) -> float:
    """``(a + a_low) / (b + b_low)`` for b >= 1, with one rounding: the remainder of the division is exact."""
    inverse = 1.0 / b
    q = a * inverse
    q_long, b_long = q * SPLIT, b * SPLIT
    q_high = q_long - (q_long - q)
    b_high = b_long - (b_long - b)
    q_low_, b_low_ = q - q_high, b - b_high
    product = q * b
    product_low = ((q_high * b_high - product) + q_high * b_low_ + q_low_ * b_high) + q_low_ * b_low_
    remainder = ((a - product) - product_low) + (a_low - q * b_low)
    return q + remainder * inverse


@inlined
def largest(margins: NDArray[Any], row: int) -> float:
    """The largest margin of a row, NaN if one is NaN."""
    highest = np.float64(margins[row, 0])
    for k in range(1, margins.shape[1]):
        x = np.float64(margins[row, k])
        highest = x if not x <= highest else highest
    return highest
