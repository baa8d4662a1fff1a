"""Arrow's buffers as NumPy arrays: values without a copy, missing ones as NaN, one rule for rounding."""

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.prepare.rules import INTEGER_TYPES
from engine.schema import Feature
from kernels.columns.bitmaps import blank_invalid

Floats: TypeAlias = NDArray[Any]
"""float32 or float64, the block's type."""
Rows: TypeAlias = NDArray[np.intp]
Chunk: TypeAlias = "pa.Array[Any]"

NO_ROWS: Rows = np.empty(0, np.intp)


def view_of(buffer: pa.Buffer | None, dtype: np.dtype, size: int = -1, start: int = 0) -> NDArray[Any]:
    """A buffer's memory from element ``start`` on, empty if there is none; a copy only if it is misaligned.

    Read-only even where the buffer is not, so that kernels are compiled for one case.
    """
    if buffer is None or not size or not buffer.size:
        return _read_only(np.zeros(max(size, 0), dtype))
    view: NDArray[Any] = np.frombuffer(buffer, dtype, size, start * dtype.itemsize)
    return _read_only(view if view.flags.aligned else view.copy())


def values_of(chunk: Chunk) -> NDArray[Any]:
    """A view of a numeric array's values, whatever they are where it has none; a copy of booleans."""
    if isinstance(chunk, pa.BooleanArray):
        chunk = chunk.cast(pa.uint8())
    return view_of(chunk.buffers()[1], _dtype(chunk.type), len(chunk), chunk.offset)


def _dtype(kind: pa.DataType) -> np.dtype:
    """NumPy's type for a numeric one of Arrow, whose own ``to_pandas_dtype`` imports pandas."""
    name = {"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(kind), str(kind))
    return np.dtype(name)


def rounded(feature: Feature, values: NDArray[Any], block: np.dtype) -> NDArray[Any]:
    """Numbers of any type rounded as at every door: to float64, then to the feature's type.

    What is left is the rounding to the block's type, which is a plain assignment. Returns ``values``
    itself where there is nothing to do.
    """
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        values = values.astype(np.float64)
    if feature.type == "float32" and block == np.float64 and values.dtype.itemsize > 2:
        values = values.astype(np.float32, copy=False)
    if feature.type in INTEGER_TYPES and values.dtype.kind == "f":
        values = values + values.dtype.type(0)  # no -0.0
    return values


def blank_missing(chunk: Chunk, values: Floats, out: Floats) -> Floats:
    """Copy ``values`` to ``out`` with NaN where ``chunk`` is null; ``values`` itself if it is nowhere."""
    if not chunk.null_count:
        return values
    valid = view_of(chunk.buffers()[0], np.dtype(np.uint8))
    blank_invalid(valid, chunk.offset, values, out)
    return out


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
