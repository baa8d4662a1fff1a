import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.folding.ordered_floats import grid, keys_of, of_keys, span


@given(st.floats(allow_nan=False, width=64), st.sampled_from([np.float32, np.float64]))
def test_the_next_larger_float_has_the_next_larger_key(value: float, dtype: type) -> None:
    with np.errstate(all="ignore"):
        here = np.array([value], dtype)
        above = np.nextafter(here, np.array(np.inf, dtype))
    if np.isfinite(here[0]) and here[0] != 0 and above[0] != 0:
        assert keys_of(above)[0] == keys_of(here)[0] + 1


@given(st.floats(allow_nan=False, width=32), st.sampled_from([np.float32, np.float64]))
def test_a_key_gives_its_float_back(value: float, dtype: type) -> None:
    floats = np.array([value], dtype)
    assert of_keys(keys_of(floats), np.dtype(dtype))[0] == floats[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_whole_span_reaches_from_the_lowest_to_the_highest_number(dtype: type) -> None:
    low, high = of_keys(span(np.dtype(dtype), 1.0), np.dtype(dtype))
    assert (low, high) == (np.finfo(dtype).min, np.finfo(dtype).max)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_grid_ascends_and_has_the_usual_edges(dtype: type) -> None:
    points = grid(np.dtype(dtype), 1.0)
    assert (np.diff(points.astype(np.float64)) > 0).all()
    assert {-1.0, 0.0, 1.0} <= set(points.tolist())
