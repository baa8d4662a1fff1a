"""The passes over one column, against the obvious way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.columns.passes import count_odd, look_up


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.floats(width=32), st.integers(-130, 130).map(float)), max_size=40))
def test_odd_are_values_that_are_no_whole_number_in_range(values: list[float]) -> None:
    odd = [x for x in values if x == x and not (x.is_integer() and -128 <= x <= 127)]
    for dtype in (np.float32, np.float64):
        assert count_odd(np.array(values, dtype), -128.0, 128.0) == len(odd)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_look_up_takes_the_value_of_each_index_and_nan_past_the_ends(dtype: type) -> None:
    out = np.zeros(5, dtype)
    look_up(np.array([1, 0, 2, -1, 1], np.int32), np.array([10.0, 20.0], dtype), out)
    np.testing.assert_array_equal(out, [20.0, 10.0, np.nan, np.nan, 20.0])
