"""A model's arrays as one argument, the address of their addresses: each array costs a call 0.05 µs.

The arrays may as well lie in memory shared with other processes.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from kernels.compiler import inlined
from kernels.forests.simd import pointer_at


def gather_parts(
    names: Sequence[str], made: Mapping[str, NDArray[Any]], *owners: object
) -> tuple[NDArray[Any], ...]:
    """The array of each name: from ``made``, else the attribute of the owner that has it."""
    found = {name: getattr(owner, name) for owner in owners for name in names if hasattr(owner, name)}
    return tuple(np.ascontiguousarray({**found, **made}[name]) for name in names)


def addresses_of(arrays: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """int64[n, 2]: the address of each array's first item, and how many items it has."""
    return np.array([(array.ctypes.data, array.size) for array in arrays], np.int64)


def over_arrays(
    machine_code: Callable[..., Any], model: NDArray[np.int64], arrays: Sequence[object]
) -> Callable[..., Any]:
    """``machine_code`` with the address of ``model`` as its first argument.

    A partial and not a method: a call of one row takes 1 µs, and a method 0.07 of them. It keeps alive what
    it reads, for who holds the call but not its kernel.
    """
    call = functools.partial(machine_code, model.ctypes.data)
    call.__dict__["reads"] = model, arrays
    return call


@inlined
def model_at(address: int, n_parts: int) -> NDArray[np.int64]:
    """The array that ``addresses_of`` made and that lies at ``address``."""
    return carray(pointer_at(address), (n_parts, 2), np.int64)


@inlined
def part(model: NDArray[np.int64], index: int, dtype: Any) -> NDArray[Any]:
    """The model's array number ``index``, as one dimension of ``dtype``."""
    return carray(pointer_at(model[index, 0]), model[index, 1], dtype)
