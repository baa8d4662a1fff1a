"""What the CUDA twins share: compiling when first used, finding a GPU, and moving rows to it.

Nothing here needs a GPU to be imported. A twin bears its CPU kernel's class name and methods, and
gives the same bits: one thread owns a row and adds its trees or columns in the CPU's order.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

THREADS_PER_BLOCK = 128
CHUNK_ROWS = 1 << 20
CHUNK_VALUES = 1 << 27
"""Rows, and values of their features, on the device at a time; this bounds its memory."""


def gpu_is_available() -> bool:
    """Whether CUDA kernels can run here: a driver and a device, or Numba's simulator."""
    try:
        from numba import cuda

        return bool(cuda.is_available())
    except (ImportError, OSError, RuntimeError):
        return False


@cache
def compiled(function: Callable[..., None]) -> Any:
    """``function`` as a CUDA kernel; importing Numba's CUDA side and compiling wait until first use."""
    from numba import cuda

    return cuda.jit(function)


def launch(function: Callable[..., None], n_rows: int, *arguments: object) -> None:
    """Run ``function`` on the device with one thread per row."""
    blocks = -(-n_rows // THREADS_PER_BLOCK)
    compiled(function)[blocks, THREADS_PER_BLOCK](*arguments)


def to_device(array: NDArray[Any]) -> Any:
    """A copy of ``array`` on the device; an empty one gets a single zero, which nobody reads."""
    from numba import cuda

    return cuda.to_device(array if array.size else np.zeros(1, array.dtype))


def uninitialised(shape: int | tuple[int, ...], dtype: DTypeLike) -> Any:
    """Room on the device; an empty array gets a single item, which nobody reads."""
    from numba import cuda

    return cuda.device_array(shape if np.prod(shape) else np.ones_like(shape), dtype)


def chunks(n_rows: int, n_features: int) -> Sequence[slice]:
    """``n_rows`` cut into pieces that fit the device."""
    rows = max(1, min(CHUNK_ROWS, CHUNK_VALUES // max(1, n_features)))
    return [slice(start, min(start + rows, n_rows)) for start in range(0, n_rows, rows)]
