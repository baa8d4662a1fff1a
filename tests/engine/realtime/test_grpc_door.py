"""Typed tensors of gRPC as arrays: the same values, and no Python object for each."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from engine.errors import InvalidRequest
from engine.realtime.grpc.door import CONTENTS, _contents
from engine.realtime.grpc.messages import message

Contents = message("InferTensorContents")
EDGES = {
    "BOOL": [True, False, True],
    "INT8": [-128, 0, 127],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "UINT8": [0, 255],
    "UINT16": [0, 2**16 - 1],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "FP32": [1.5, float("inf"), -0.0, 1e-45],
    "FP64": [0.1, float("-inf"), -0.0, 5e-324],
}
UNKNOWN_FIELD = b"\xf8\x01\x05"
"""Field 31, which no version of the message has."""


def contents(datatype: str, values: list[Any], more: bytes = b"") -> Any:
    typed = Contents(**{CONTENTS[datatype]: values})
    return Contents.FromString(typed.SerializeToString() + more)


@pytest.mark.parametrize("more", [b"", UNKNOWN_FIELD], ids=["", "unknown field"])
@pytest.mark.parametrize("datatype", EDGES)
def test_typed_values_are_what_they_were(datatype: str, more: bytes) -> None:
    values = EDGES[datatype]
    read = _contents(contents(datatype, values, more), datatype, len(values), "x")
    expected = np.array(values, read.dtype)
    assert read.tobytes() == expected.tobytes()
    assert _contents(contents(datatype, [], more), datatype, 0, "x").tolist() == []


@pytest.mark.parametrize(("datatype", "value"), [("INT8", 128), ("UINT16", 2**16), ("INT16", -(2**15) - 1)])
def test_a_value_beyond_its_datatype_is_refused(datatype: str, value: int) -> None:
    with pytest.raises(InvalidRequest, match=f"input 'x' is out of the range of {datatype}"):
        _contents(contents(datatype, [0, value]), datatype, 2, "x")


def peak_bytes(typed: Any, datatype: str, count: int) -> int:
    tracemalloc.start()
    try:
        _contents(typed, datatype, count, "x")
    except InvalidRequest:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "BOOL", "INT64"])
def test_a_million_values_are_no_million_objects(datatype: str) -> None:
    n_values = 1 << 20
    typed = contents(datatype, [EDGES[datatype][0]] * n_values)
    read = _contents(typed, datatype, n_values, "x")
    assert peak_bytes(typed, datatype, n_values) < 1.1 * read.nbytes


def test_values_that_are_not_as_many_as_the_shape_says_are_not_looked_at() -> None:
    typed = contents("BYTES", [b"x"] * (1 << 20))
    assert peak_bytes(typed, "BYTES", 4) < 100_000
