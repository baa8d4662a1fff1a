import random

import numpy as np
import pytest

from engine.realtime.doors.tensors import FLOATS, as_array, as_floats


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
