"""What the CUDA twins share: compiling when first used, finding a GPU, and its memory.

Nothing here needs a GPU to be imported. A twin has its CPU kernel's methods, and gives the same bits: one
thread owns a row and adds its trees or columns in the CPU's order.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.compiler import kept

THREADS_PER_BLOCK = 128


def gpu_is_available() -> bool:
    """Whether CUDA kernels can run here: a driver and a device, or Numba's simulator."""
    try:
        from numba import cuda

        return bool(cuda.is_available())
    except (ImportError, OSError, RuntimeError):
        return False


@cache
def compiled(function: Callable[..., None]) -> Any:
    """``function`` as a CUDA kernel, compiled when first used; its machine code is kept as the CPU's is."""
    from numba import cuda
    from numba.cuda.core import config

    config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # a small batch is no mistake
    return cuda.jit(function) if config.ENABLE_CUDASIM else kept(function, cuda.jit)


def launch(function: Callable[..., None], n_rows: int, stream: Any, *arguments: object) -> None:
    """Start ``function`` on the device with one thread per row, behind what is in the stream."""
    blocks = -(-n_rows // THREADS_PER_BLOCK)
    compiled(function)[blocks, THREADS_PER_BLOCK, stream](*arguments)


def new_stream() -> Any:
    """A stream of the device: what is done in it is done in order, and at the same time as in others."""
    from numba import cuda

    return cuda.stream()


def to_device(array: NDArray[Any]) -> Any:
    """A copy of ``array`` on the device; an empty one gets a single zero, which nobody reads."""
    from numba import cuda

    return cuda.to_device(array if array.size else np.zeros(not_empty(array.shape), array.dtype))


def uninitialised(shape: int | tuple[int, ...], dtype: DTypeLike) -> Any:
    """Room on the device; an empty array gets a single item, which nobody reads."""
    from numba import cuda

    return cuda.device_array(not_empty(shape), dtype)


def pinned(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Room in the host's memory that stays where it is, so that a device may copy by itself."""
    from numba import cuda

    room: NDArray[Any] = cuda.pinned_array(not_empty(shape), dtype)
    return room


def not_empty(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    """``shape``, or that of a single item in place of none."""
    sides = (shape,) if isinstance(shape, int) else shape
    return sides if all(sides) else (1,) * len(sides)


def aligned(records: NDArray[Any]) -> NDArray[Any]:
    """The same records with aligned fields: a device loads others byte by byte."""
    return records.astype(np.dtype(records.dtype.descr, align=True))
