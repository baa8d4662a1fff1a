"""Tensors of the Open Inference Protocol: datatypes, and values from JSON and from raw bytes.

JSON: flat or nested, row-major. ``null`` is a missing value in FP32, FP64 and BYTES, the only
datatypes that can hold one; NaN and Infinity are no JSON and are refused. Raw bytes: little-endian,
row-major; BYTES are each preceded by their length as uint32.
"""

import struct
from array import array
from collections.abc import Iterable
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidRequest
from engine.realtime.doors.pieces import LEAVES, LISTS, MALFORMED, PIECE_BYTES, decode_list, in_pieces
from engine.schema import Feature

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    "BYTES": np.dtype(object),
}
"""NumPy types by datatype. BF16 is not spoken."""
FLOATS = frozenset({"FP32", "FP64"})

FEATURE_DATATYPES = {
    "bool": "BOOL", "float32": "FP32", "float64": "FP64",
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
}  # fmt: skip
"""Datatypes by feature type; a category is BYTES or, with integer categories, INT64."""

Values = NDArray[Any] | list[Any]
"""One dimension: an array of numbers, or a list of what JSON holds."""

_FLAT: dict[str, msgspec.json.Decoder[Any]] = {
    "BOOL": msgspec.json.Decoder(list[bool]),
    **{name: msgspec.json.Decoder(list[int]) for name in DATATYPES if "INT" in name},
    **{name: msgspec.json.Decoder(list[float | None]) for name in ("FP32", "FP64")},
    "BYTES": msgspec.json.Decoder(list[str | None]),
}
_NESTED = msgspec.json.Decoder(list[Any])
_ROWS = msgspec.json.Decoder(list[list[Any]])
_LEAVES: dict[str, tuple[type, ...]] = {
    "BOOL": (bool,),
    "FP32": (int, float, type(None)),
    "FP64": (int, float, type(None)),
    "BYTES": (str, type(None)),
}


def datatype_of(feature: Feature) -> str:
    """The datatype that a feature's tensor has in the model's metadata."""
    if feature.type == "category":
        return "INT64" if feature.categories and isinstance(feature.categories[0], int) else "BYTES"
    return FEATURE_DATATYPES[feature.type]


def from_json(raw: msgspec.Raw, datatype: str, count: int, name: str) -> list[Any]:
    """``count`` values from the JSON of an input's ``data``."""
    values = _decode(raw, datatype, name)
    if len(values) != count:
        raise InvalidRequest(f"expected {count} values by the shape of input '{name}', got {len(values)}")
    return values


def as_array(values: Values, datatype: str, name: str) -> NDArray[Any]:
    """Numbers as an array of their datatype, null as NaN."""
    try:
        return np.asarray(values, DATATYPES[datatype])
    except OverflowError:
        raise _out_of_range(datatype, name) from None


def from_values(values: Iterable[int], datatype: str, count: int, name: str) -> NDArray[Any]:
    """``count`` integers as an array of their datatype, without a list of them all."""
    try:
        return np.fromiter(values, DATATYPES[datatype], count)
    except OverflowError:
        raise _out_of_range(datatype, name) from None


def _out_of_range(datatype: str, name: str) -> InvalidRequest:
    return InvalidRequest(f"a value of input '{name}' is out of the range of {datatype}")


def as_floats(values: list[Any], datatype: str, name: str) -> list[Any]:  # noqa: ARG001 as ``as_array``
    """The same of FP32 or FP64 as a list, null as it is: faster where there are only a few."""
    if datatype == "FP64":
        return values
    try:
        return array("f", values).tolist()
    except TypeError:
        return [None if value is None else array("f", (value,))[0] for value in values]


def _decode(raw: msgspec.Raw, datatype: str, name: str) -> list[Any]:
    if datatype == "FP16":
        raise InvalidRequest(f"input '{name}' is FP16, which JSON has no form for; send it as binary data")
    try:
        return decode_list(_FLAT[datatype], raw, LEAVES)
    except MALFORMED as error:
        first = error
    if (values := _long_matrix(raw)) is not None:
        return _checked(values, datatype, name)
    try:
        nested = _NESTED.decode(raw)
    except RecursionError:
        raise InvalidRequest(f"data of input '{name}' is nested too deeply") from None
    except MALFORMED as error:
        raise InvalidRequest(f"data of input '{name}': {error}") from error
    if not any(isinstance(value, list) for value in nested):
        raise InvalidRequest(f"data of input '{name}', datatype {datatype}: {first}")
    return _flattened(nested, datatype, name)


def _long_matrix(raw: msgspec.Raw) -> list[Any] | None:
    """The values of a long list of equally long lists, row after row; None for any other.

    Its lists are let go of piece by piece: the garbage collector would look at all of them for long.
    """
    if len(raw) <= PIECE_BYTES:
        return None
    values: list[Any] = []
    widths = set[int]()
    try:
        for rows in in_pieces(raw, LISTS, _ROWS.decode):
            widths.update(map(len, rows))
            values += chain.from_iterable(rows)
    except MALFORMED:
        return None
    return values if len(widths) == 1 and not any(isinstance(value, list) for value in values) else None


def _flattened(nested: list[Any], datatype: str, name: str) -> list[Any]:
    level = nested
    while any(isinstance(value, list) for value in level):
        if not all(isinstance(value, list) and len(value) == len(level[0]) for value in level):
            raise InvalidRequest(f"data of input '{name}' is ragged; expected lists of equal length")
        level = [value for part in level for value in part]
    return _checked(level, datatype, name)


def _checked(values: list[Any], datatype: str, name: str) -> list[Any]:
    leaves = _LEAVES.get(datatype, (int,))
    for value in values:
        if type(value) not in leaves:
            raise InvalidRequest(f"expected {datatype} in data of input '{name}', got {json_kind(value)}")
    return values


def json_kind(value: object) -> str:
    """What JSON calls a decoded value."""
    kinds = {bool: "bool", int: "int", float: "float", str: "str", type(None): "null", dict: "object"}
    return kinds.get(type(value), "array")


def from_bytes(raw: memoryview, datatype: str, count: int, name: str) -> Values:
    """``count`` values from raw bytes; numbers are a view, not a copy."""
    if datatype == "BYTES":
        return _texts(raw, count, name)
    dtype = DATATYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise InvalidRequest(
            f"expected {count * dtype.itemsize} bytes, {count} {datatype}, for input '{name}', got {len(raw)}"
        )
    values = np.frombuffer(raw, dtype)
    if datatype == "BOOL" and count and np.frombuffer(raw, np.uint8).max() > 1:
        raise InvalidRequest(f"expected bytes 0 and 1 in BOOL input '{name}'")
    return values


def _texts(raw: memoryview, count: int, name: str) -> list[str | None]:
    texts: list[str | None] = []
    at, end = 0, len(raw)
    while at + 4 <= end and len(texts) < count:
        (length,) = struct.unpack_from("<I", raw, at)
        if at + 4 + length > end:
            break
        try:
            texts.append(str(raw[at + 4 : at + 4 + length], "utf-8"))
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"element {len(texts)} of BYTES input '{name}' is no UTF-8: {error}"
            ) from error
        at += 4 + length
    if at != end or len(texts) != count:
        raise InvalidRequest(
            f"expected {count} length-prefixed elements in BYTES input '{name}',"
            f" got {len(texts)} and {end - at} bytes more"
        )
    return texts
