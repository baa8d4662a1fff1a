"""In how many rows two tables differ, bit for bit: NaN equals NaN, and 0.0 is not -0.0."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_INTEGERS = {pa.float16(): pa.int16(), pa.float32(): pa.int32(), pa.float64(): pa.int64()}
"""Of the same bytes."""


def differing_rows(expected: pa.Table, found: pa.Table) -> int:
    """Rows whose values have other bits, with those that are missing or too many.

    Tables of other columns differ in all rows, and so do those of types that cannot be made the expected ones
    (Parquet itself has fewer types than Arrow).
    """
    try:
        found = found.cast(expected.schema)
    except (pa.ArrowException, ValueError):
        return max(expected.num_rows, found.num_rows)
    n = min(expected.num_rows, found.num_rows)
    differs = np.zeros(n, bool)
    for a, b in zip(expected.columns, found.columns, strict=True):
        differs |= ~_same(a.slice(0, n).combine_chunks(), b.slice(0, n).combine_chunks())
    return int(differs.sum()) + abs(expected.num_rows - found.num_rows)


def _same(a: pa.Array, b: pa.Array) -> NDArray[np.bool_]:
    if (integer := _INTEGERS.get(a.type)) is not None:
        a, b = a.view(integer), b.view(integer)
    try:
        equal = pc.fill_null(pc.equal(a, b), False)
    except pa.ArrowNotImplementedError:  # lists, structs, maps: slowly, and by what they are written as
        return np.array([repr(x) == repr(y) for x, y in zip(a.to_pylist(), b.to_pylist(), strict=True)], bool)
    return np.asarray(pc.or_(equal, pc.and_(a.is_null(), b.is_null())), bool)
