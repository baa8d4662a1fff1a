"""From Python's objects to numbers: the numeric values of a dict or tuple, written to a row of a block.

Each value is looked at once, through CPython's documented C interface, in one call for the whole row. What
is no ordinary value (a NumPy number, a huge integer, a string) is not decided here: the answer is False,
and whoever called finds out what it is. Objects come as their addresses, ``id(object)``: the caller
guarantees that they are of the type that is said here and live until the kernel returns.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from kernels.compiler import entry, inlined, object_kernel
from kernels.parts import addresses_of, model_at, over_arrays, part

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
KIND = np.dtype([("float", np.int64), ("int", np.int64), ("bool", np.int64), ("none", np.int64)])
"""The addresses of the types of ordinary values, and of None."""
VALUES, KINDS = range(2)

_ADDRESS = types.intp
_value_of_key = types.ExternalFunction("PyDict_GetItemWithError", _ADDRESS(_ADDRESS, _ADDRESS))
_value_at = types.ExternalFunction("PyTuple_GetItem", _ADDRESS(_ADDRESS, _ADDRESS))
_type_of = types.ExternalFunction("PyObject_Type", _ADDRESS(_ADDRESS))
_release = types.ExternalFunction("Py_DecRef", types.void(_ADDRESS))
_as_float64 = types.ExternalFunction("PyFloat_AsDouble", types.float64(_ADDRESS))
_error = types.ExternalFunction("PyErr_Occurred", _ADDRESS())
_forget_error = types.ExternalFunction("PyErr_Clear", types.void())


@object_kernel
def write_mapping(address: int, mapping: int, X: NDArray[Any], row: int) -> bool:
    """Write a dict's values to a row of ``X``; False, with anything written, if one is not ordinary.

    Args:
        address: Of int64[2, 2], the parts VALUES and KINDS.
        mapping: The address of a dict.
        X: C-order float32 or float64[n, F]; NaN is missing.
        row: Which row.
    """
    model = model_at(address, 2)
    values, kinds = part(model, VALUES, VALUE), part(model, KINDS, KIND)
    for i in range(len(values)):
        if not write_value(values[i], kinds[0], _value_of_key(mapping, values[i].name), X, row):
            _forget_error()
            return False
    return True


@object_kernel
def write_tuple(address: int, values_of_row: int, X: NDArray[Any], row: int) -> bool:
    """The same for a tuple, at the address ``values_of_row``, of values in the order of the block."""
    model = model_at(address, 2)
    values, kinds = part(model, VALUES, VALUE), part(model, KINDS, KIND)
    for i in range(len(values)):
        if not write_value(values[i], kinds[0], _value_at(values_of_row, values[i].place), X, row):
            _forget_error()
            return False
    return True


@inlined
def write_value(value: Any, kinds: Any, found: int, X: NDArray[Any], row: int) -> bool:
    """Write the number of the object at the address ``found`` (0: there is none), if it is ordinary."""
    if found == 0:
        return False
    if found == kinds.none:
        X[row, value.place] = np.nan
        return not value.is_required
    kind = _type_of(found)
    _release(kind)
    if not (kind == kinds.float or kind == kinds.int or (value.is_bool and kind == kinds.bool)):
        return False
    number = _as_float64(found)
    if number == -1.0 and _error() != 0:  # an integer beyond float64
        return False
    if number != number:
        X[row, value.place] = np.nan
        return not value.is_required
    if value.is_whole:
        X[row, value.place] = number + 0.0  # no -0.0
        return value.before < number < value.end and number == np.floor(number)
    X[row, value.place] = np.float32(number) if value.is_single else number
    return True


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


WriteRow = Callable[[int, NDArray[Any], int], bool]
"""Takes the address of a row's object, the block and the row's number."""


def row_writers(numbers: Sequence[Number], dtype: np.dtype[Any]) -> tuple[WriteRow, WriteRow]:
    """``write_mapping`` and ``write_tuple`` for the numeric features of a block of ``dtype``."""
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
    kinds = np.array([(id(float), id(int), id(bool), id(None))], KIND)
    model = addresses_of((values, kinds))
    reads = (values, kinds, numbers)
    to_mapping, to_tuple = _machine_code(dtype)
    return over_arrays(to_mapping, model, reads), over_arrays(to_tuple, model, reads)


def _range(bounds: tuple[int, int] | None) -> tuple[float, float]:
    """What lies before and after the integers of a range; those that round to it are no ordinary ones."""
    return (-np.inf, np.inf) if bounds is None else (float(bounds[0] - 1), float(bounds[1] + 1))


@functools.cache
def _machine_code(dtype: np.dtype[Any]) -> tuple[Callable[..., bool], Callable[..., bool]]:
    examples = (0, 0, np.empty((1, 1), dtype), 0)
    return entry(write_mapping, *examples), entry(write_tuple, *examples)
