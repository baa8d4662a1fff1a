"""What the command calls repeated, and predicted."""

import pytest

from load_tests.capacity.__main__ import errors_of, faults_of, spread_of
from load_tests.capacity.search import Capacity
from load_tests.results.slo import Promise


def found(rate: float, predicted: float | None = None) -> Capacity:
    return Capacity(Promise(99, 0.020), rate, 5, 5, 0.01, (), (), predicted_rate=predicted)


def test_the_spread_is_that_of_the_farthest_search() -> None:
    assert spread_of([90.0, 100.0, 110.0]) == pytest.approx(0.1)


def test_an_error_is_a_share_of_what_the_same_search_measured() -> None:
    assert errors_of([found(100, 120), found(200, 150)]) == pytest.approx([0.2, -0.25])


def test_within_bounds_nothing_is_named() -> None:
    assert faults_of({"cheap": [found(95, 100), found(105, 100)]}) == []


@pytest.mark.parametrize(
    ("searches", "words"),
    [
        ([found(80, 80), found(120, 120)], "20 % from the mean"),
        ([found(100, 130), found(100, 100)], r"\+30 % off"),
        ([found(100, 100), found(100)], "nothing was predicted"),
        ([found(100, 100), found(0.0)], "no rate kept"),
    ],
)
def test_what_is_out_of_bounds_is_named(searches: list[Capacity], words: str) -> None:
    (fault,) = faults_of({"cheap": searches})
    assert words.replace("\\", "") in fault
