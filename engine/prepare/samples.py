"""Small tables for a warm-up: between them they take every way through the kernels of tables.

Made from buffers, because ``pa.array`` would import pandas, which takes longer than all the rest.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from engine.prepare.buffers import Chunk
from engine.prepare.rules import holds_strings
from engine.schema import Feature, Schema

VARIANTS = (
    (pa.float32(), pa.string()),
    (pa.float64(), pa.large_string()),
    (pa.int8(), pa.dictionary(pa.int32(), pa.string())),
)
"""Types of numbers and of strings for which different kernels are compiled."""
N_ROWS = 2
_SECOND_ONLY = pa.py_buffer(b"\x02")
_ZEROS = pa.py_buffer(bytes(16))


def samples(schema: Schema) -> Iterator[pa.Table]:
    """Tables of two rows, the first of them all null."""
    for number, string in VARIANTS:
        arrays = [_column(feature, number, string) for feature in schema.features]
        yield pa.Table.from_arrays(arrays, names=list(schema.names))


def _column(feature: Feature, number: pa.DataType, string: pa.DataType) -> Chunk:
    if feature.type != "category" or not holds_strings(feature):
        return pa.Array.from_buffers(number, N_ROWS, [_SECOND_ONLY, _ZEROS])
    text = str(feature.categories[0] if feature.categories else "").encode()
    if not isinstance(string, pa.DictionaryType):
        return _strings(string, text)
    indices = pa.Array.from_buffers(string.index_type, N_ROWS, [_SECOND_ONLY, _ZEROS])
    return pa.DictionaryArray.from_arrays(indices, _strings(string.value_type, text))


def _strings(string: pa.DataType, text: bytes) -> Chunk:
    width = np.int64 if pa.types.is_large_string(string) else np.int32
    offsets = pa.py_buffer(np.array([0, 0, len(text)], width))
    return pa.Array.from_buffers(string, N_ROWS, [_SECOND_ONLY, offsets, pa.py_buffer(text)])
