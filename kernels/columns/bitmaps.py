"""Arrow validity bitmaps, read sixteen rows at a time.

Bit ``(first + i) % 8`` of byte ``(first + i) // 8``, counted from the least significant, says that row
``i`` has a value; what is stored for a row without one may be anything.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kernels.compiler import kernel


@intrinsic
def blank16(typingctx: Any, bits: Any, values: Any, start: Any, out: Any) -> Any:
    """Copy 16 values from ``values[start]`` to ``out[start]``, NaN where their bit of ``bits`` is 0.

    Both arrays are contiguous float32 or float64, of one type.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits, values, start, out = arguments
        places = []
        for kind, array in ((signature.args[1], values), (signature.args[3], out)):
            data = context.make_array(kind)(context, builder, array).data
            vector = ir.VectorType(data.type.pointee, 16)
            places.append(builder.bitcast(builder.gep(data, [start]), vector.as_pointer()))
        valid = builder.bitcast(builder.trunc(bits, ir.IntType(16)), ir.VectorType(ir.IntType(1), 16))
        missing = ir.Constant(vector, [float("nan")] * 16)
        kept = builder.select(valid, builder.load(places[0], align=value_bytes), missing)
        builder.store(kept, places[1], align=value_bytes)
        return context.get_dummy_value()

    value_bytes = values.dtype.bitwidth // 8
    return types.none(types.uint32, values, types.intp, out), emit


@kernel
def blank_invalid(valid: NDArray[np.uint8], first: int, values: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy values, with NaN for rows without one.

    Args:
        valid: The bitmap, at least ``first + n`` bits.
        first: The bit of row 0.
        values: float32 or float64[n], contiguous.
        out: The same type; may be ``values`` itself.
    """
    n = len(values)
    row = 0
    # Three bytes hold sixteen bits wherever they start; the last rows might read past the bitmap.
    while row + 24 <= n:
        byte, bit = (first + row) >> 3, np.uint32((first + row) & 7)
        bits = np.uint32(valid[byte]) | np.uint32(valid[byte + 1]) << 8 | np.uint32(valid[byte + 2]) << 16
        blank16(np.uint32(bits >> bit), values, row, out)
        row += 16
    for last in range(row, n):
        place = first + last
        has_value = valid[place >> 3] >> (place & 7) & 1
        out[last] = values[last] if has_value else out.dtype.type(np.nan)
