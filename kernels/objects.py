"""From Python's objects to numbers: the numeric values of dicts or tuples, written to the rows of a block.

Each value is looked at once, in one call for many rows: found through CPython's C interface, its type and
a float's number read where they are in memory. What is no ordinary value (a NumPy number, a huge integer, a
string) is not decided here: the kernel stops at its row, and whoever called finds out what it is. Objects
come as their addresses, ``id(object)``: the caller guarantees that they are of the type that is said here
and live until the kernel returns.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray, types
from numpy.typing import NDArray

from kernels.compiler import entry, inlined, object_kernel
from kernels.forests.simd import pointer_at
from kernels.parts import addresses_of, model_at, over_arrays, part

ROWS_AT_ONCE = 256
"""Rows of a call: the interpreter waits for it, and other threads should not notice."""
VALUE = np.dtype(
    [
        ("name", np.int64), ("place", np.int64), ("before", np.float64), ("end", np.float64),
        ("is_whole", np.bool_), ("is_bool", np.bool_), ("is_single", np.bool_), ("is_required", np.bool_),
    ],
    align=True,
)  # fmt: skip
"""What to read: the address of a string, the key; the place in the row, and in a tuple; what lies right
before and after the range of whole numbers; whether only those are taken; whether True and False are, too;
whether it is rounded to float32; whether it must be there."""
KIND = np.dtype(
    [
        ("row", np.int64), ("is_mapping", np.bool_),
        ("float", np.int64), ("int", np.int64), ("bool", np.int64), ("none", np.int64),
    ],
    align=True,
)  # fmt: skip
"""The address of a row's type and whether that is ``dict``; those of the types of ordinary values, and of
None."""
VALUES, KINDS = range(2)
TYPE_OFFSET = object.__basicsize__ - np.dtype(np.intp).itemsize
"""Where an object's type is: what all objects have ends with it."""
NUMBER_OFFSET = float.__basicsize__ - np.dtype(np.float64).itemsize
"""Where a float's number is: it is all that a float adds."""

_ADDRESS = types.intp
_row_at = types.ExternalFunction("PyList_GetItem", _ADDRESS(_ADDRESS, _ADDRESS))
_value_of_key = types.ExternalFunction("PyDict_GetItemWithError", _ADDRESS(_ADDRESS, _ADDRESS))
_value_at = types.ExternalFunction("PyTuple_GetItem", _ADDRESS(_ADDRESS, _ADDRESS))
_hold = types.ExternalFunction("Py_IncRef", types.void(_ADDRESS))
_release = types.ExternalFunction("Py_DecRef", types.void(_ADDRESS))
_as_float64 = types.ExternalFunction("PyFloat_AsDouble", types.float64(_ADDRESS))
_error = types.ExternalFunction("PyErr_Occurred", _ADDRESS())
_forget_error = types.ExternalFunction("PyErr_Clear", types.void())


@object_kernel
def write_rows(address: int, rows: int, first: int, X: NDArray[Any]) -> int:
    """Write the values of rows, from ``first`` on, until ROWS_AT_ONCE are done or one is not ordinary.

    Args:
        address: Of int64[2, 2], the parts VALUES and KINDS.
        rows: The address of a list of dicts or tuples; of tuples with the values in the order of the block.
        first: The row to begin with.
        X: C-order float32 or float64[n, F]; NaN is missing.

    Returns:
        The row after the last one written; that one may hold anything.
    """
    model = model_at(address, 2)
    values, kinds = part(model, VALUES, VALUE), part(model, KINDS, KIND)
    end = min(first + ROWS_AT_ONCE, X.shape[0])
    for row in range(first, end):
        if not write_row(values, kinds[0], _row_at(rows, row), X, row):
            _forget_error()
            return row
    return end


@inlined
def write_row(values: NDArray[Any], kinds: Any, found: int, X: NDArray[Any], row: int) -> bool:
    """Write the values of the row at the address ``found`` (0: there is none), if all are ordinary."""
    if found == 0 or type_of(found) != kinds.row:
        return False
    _hold(found)  # for a key's comparison may run any code
    n_written = 0
    for value in values:
        at = _value_of_key(found, value.name) if kinds.is_mapping else _value_at(found, value.place)
        if not write_value(value, kinds, at, X, row):
            break
        n_written += 1
    _release(found)
    return n_written == len(values)


@inlined
def write_value(value: Any, kinds: Any, found: int, X: NDArray[Any], row: int) -> bool:
    """Write the number of the object at the address ``found`` (0: there is none), if it is ordinary."""
    if found == 0:
        return False
    if found == kinds.none:
        X[row, value.place] = np.nan
        return not value.is_required
    kind = type_of(found)
    if kind == kinds.float:
        number = number_of(found)
    elif kind == kinds.int or (value.is_bool and kind == kinds.bool):
        number = _as_float64(found)
        if number == -1.0 and _error() != 0:  # an integer beyond float64
            return False
    else:
        return False
    if number != number:
        X[row, value.place] = np.nan
        return not value.is_required
    if value.is_whole:
        X[row, value.place] = number + 0.0  # no -0.0
        return value.before < number < value.end and number == np.floor(number)
    X[row, value.place] = np.float32(number) if value.is_single else number
    return True


@inlined
def type_of(found: int) -> int:
    """The address of an object's type."""
    return carray(pointer_at(found + TYPE_OFFSET), 1, np.int64)[0]


@inlined
def number_of(found: int) -> float:
    """The number of a float."""
    return carray(pointer_at(found + NUMBER_OFFSET), 1, np.float64)[0]


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric feature: its key, its place in the row, and which numbers it takes.

    Attributes:
        bounds: The least and the greatest integer, where only whole numbers are taken.
        is_bool: Whether True and False are taken as well.
        is_single: Whether it is rounded to float32, whatever the type of the block.
        is_required: Whether it must not be missing.
    """

    name: str
    place: int
    bounds: tuple[int, int] | None
    is_bool: bool
    is_single: bool
    is_required: bool


WriteRows = Callable[[int, int, NDArray[Any]], int]
"""``write_rows`` without its first argument."""


def row_writers(numbers: Sequence[Number], dtype: np.dtype[Any]) -> tuple[WriteRows, WriteRows]:
    """``write_rows`` of dicts, and of tuples, for the numeric features of a block of ``dtype``."""
    values = np.array(
        [
            (
                id(number.name), number.place, *_range(number.bounds), number.bounds is not None,
                number.is_bool, number.is_single, number.is_required,
            )
            for number in numbers
        ],
        VALUE,
    )  # fmt: skip
    return _writer(dict, numbers, values, dtype), _writer(tuple, numbers, values, dtype)


def _writer(kind: type, numbers: Sequence[Number], values: NDArray[Any], dtype: np.dtype[Any]) -> WriteRows:
    kinds = np.array([(id(kind), kind is dict, id(float), id(int), id(bool), id(None))], KIND)
    return over_arrays(_machine_code(dtype), addresses_of((values, kinds)), (values, kinds, numbers))


def _range(bounds: tuple[int, int] | None) -> tuple[float, float]:
    """What lies before and after the integers of a range; those that round to it are no ordinary ones."""
    return (-np.inf, np.inf) if bounds is None else (float(bounds[0] - 1), float(bounds[1] + 1))


@functools.cache
def _machine_code(dtype: np.dtype[Any]) -> Callable[..., int]:
    return entry(write_rows, 0, 0, 0, np.empty((1, 1), dtype))
