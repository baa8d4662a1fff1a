import json
import random
import sys
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.errors import InvalidRequest
from engine.realtime.doors import tensors
from engine.realtime.doors.tensors import FLOATS, as_array, as_floats, from_json


@pytest.mark.parametrize("datatype", sorted(FLOATS))
def test_a_few_floats_are_rounded_as_an_array_rounds_them(datatype: str) -> None:
    draw = random.Random(0)
    values = [draw.uniform(-1, 1) * 10.0 ** draw.randint(-330, 307) for _ in range(10_000)]
    values += [0.0, -0.0, 0.1, 2.0**24 + 1, 3.4028235677973366e38, 1e39, 5e-324]
    with np.errstate(over="ignore"):
        expected = as_array(values, datatype, "x").tolist()
    assert list(map(float.hex, as_floats(values, datatype, "x"))) == list(map(float.hex, expected))


@pytest.mark.parametrize("datatype", sorted(FLOATS))
def test_null_stays_null_among_a_few_floats(datatype: str) -> None:
    assert as_floats([0.5, None, 0.25], datatype, "x") == [0.5, None, 0.25]
    assert as_floats([None, 0.1], "FP32", "x") == [None, float(np.float32(0.1))]


MATRIX = [[at / 7, at, None] for at in range(6000)]
ODD = {
    "ragged at the end": [*MATRIX, [1.0]],
    "deeper at the end": [*MATRIX, [1.0, [2.0], 3.0]],
    "a text": [*MATRIX, [1.0, "two", 3.0]],
    "a number among lists": [*MATRIX, 1.0],
}


def read(data: list[Any], count: int) -> list[Any] | str:
    """Values or the sentence of the error, of an FP64 tensor."""
    try:
        return from_json(msgspec.Raw(json.dumps(data).encode()), "FP64", count, "x")
    except InvalidRequest as error:
        return str(error)


@pytest.mark.parametrize(
    "data", [MATRIX, [MATRIX, MATRIX], [[row] for row in MATRIX]], ids=[2, "3", "3, long"]
)
def test_a_long_tensor_may_be_nested(data: list[Any]) -> None:
    count = np.size(np.array(data, dtype=object))
    values = read(data, count)
    assert isinstance(values, list)
    assert values == np.array(data, dtype=object).reshape(-1).tolist()


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_what_is_wrong_with_a_long_tensor_is_said_as_of_a_short_one(
    data: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = read(data, 18_003)
    monkeypatch.setattr(tensors, "PIECE_BYTES", sys.maxsize)
    assert isinstance(said, str)
    assert said == read(data, 18_003)
