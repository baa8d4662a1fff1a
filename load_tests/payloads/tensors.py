"""Tables as tensors of the Open Inference Protocol v2, in JSON and as raw bytes."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

MATRIX = "input"
"""Name of the tensor that holds all features, where all are numbers."""


def json_request(columns: Mapping[str, Sequence[Any]], types: Sequence[pa.DataType]) -> tuple[bytes, int]:
    """The body of an infer request with one tensor per feature, and its rows."""
    inputs = [
        {"name": name, "shape": [len(values)], **_json_tensor(type_, values)}
        for (name, values), type_ in zip(columns.items(), types, strict=True)
    ]
    return msgspec.json.encode({"inputs": inputs}), len(next(iter(columns.values())))


def binary_request(table: pa.Table) -> tuple[bytes, bytes]:
    """The JSON head and the raw bytes of an infer request for a table's rows."""
    tensors = tensors_of(table)
    inputs = [
        {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(blob)}}
        for name, datatype, shape, blob in tensors
    ]
    head = msgspec.json.encode({"inputs": inputs, "parameters": {"binary_data_output": True}})
    return head, b"".join(blob for *_, blob in tensors)


def tensors_of(table: pa.Table) -> list[tuple[str, str, list[int], bytes]]:
    """Name, datatype, shape and bytes of each tensor; one matrix where all columns are numbers."""
    if all(_is_number(type_) for type_ in table.schema.types):
        wide = any(_needs_double(type_) for type_ in table.schema.types)
        dtype = np.dtype("<f8" if wide else "<f4")
        matrix = np.stack([_values(column, dtype) for column in table.columns], axis=1)
        return [(MATRIX, "FP64" if wide else "FP32", list(matrix.shape), matrix.tobytes())]
    return [_tensor(name, table.column(name)) for name in table.column_names]


def _tensor(name: str, column: pa.ChunkedArray) -> tuple[str, str, list[int], bytes]:
    shape = [len(column)]
    if pa.types.is_boolean(column.type):
        dtype = np.dtype("<f4" if column.null_count else "?")
        return name, "FP32" if column.null_count else "BOOL", shape, _values(column, dtype).tobytes()
    if not _is_number(column.type):
        return name, "BYTES", shape, b"".join(_counted(value) for value in column.to_pylist())
    if pa.types.is_integer(column.type) and not column.null_count:
        return name, _integer(column.type), shape, column.to_numpy().tobytes()
    dtype = np.dtype("<f8" if _needs_double(column.type) else "<f4")
    return name, "FP64" if dtype.itemsize == 8 else "FP32", shape, _values(column, dtype).tobytes()


def _counted(value: object) -> bytes:
    # An empty string is no category anywhere, so it is what a missing one becomes.
    text = b"" if value is None else str(value).encode()
    return struct.pack("<I", len(text)) + text


def _json_tensor(type_: pa.DataType, values: Sequence[Any]) -> dict[str, object]:
    """Datatype and data; what is missing needs a datatype that has null, so booleans become 1 and 0 there."""
    if pa.types.is_boolean(type_) and None in values:
        return {"datatype": "FP32", "data": [None if value is None else int(value) for value in values]}
    return {"datatype": _json_datatype(type_, values), "data": values}


def _json_datatype(type_: pa.DataType, values: Sequence[Any]) -> str:
    if pa.types.is_boolean(type_):
        return "BOOL"
    if not _is_number(type_):
        return "BYTES"
    if pa.types.is_integer(type_) and None not in values:
        return _integer(type_)
    return "FP64" if _needs_double(type_) else "FP32"


def _integer(type_: pa.DataType) -> str:
    return str(type_).upper()


def _is_number(type_: pa.DataType) -> bool:
    return pa.types.is_integer(type_) or pa.types.is_floating(type_)


def _needs_double(type_: pa.DataType) -> bool:
    return pa.types.is_float64(type_) or (pa.types.is_integer(type_) and type_.bit_width > 16)


def _values(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype)
