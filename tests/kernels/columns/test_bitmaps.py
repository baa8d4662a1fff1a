import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.columns.bitmaps import blank_invalid


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.booleans(), max_size=300), st.integers(0, 20), st.sampled_from([np.float32, np.float64]))
def test_rows_without_their_bit_become_missing_wherever_the_bitmap_starts(
    has_value: list[bool], first: int, dtype: type
) -> None:
    bits = np.array([True] * first + has_value, np.bool_)
    bitmap = np.packbits(bits, bitorder="little")
    values = np.arange(len(has_value), dtype=dtype)
    out = np.full_like(values, -1)
    blank_invalid(bitmap, first, values, out)
    np.testing.assert_array_equal(out, np.where(has_value, values, np.nan).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_may_be_overwritten(dtype: type) -> None:
    values = np.ones(40, dtype)
    blank_invalid(np.packbits(np.arange(40) % 3 > 0, bitorder="little"), 0, values, values)
    assert np.flatnonzero(np.isnan(values)).tolist() == list(range(0, 40, 3))
