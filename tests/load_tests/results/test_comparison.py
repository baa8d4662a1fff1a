"""A run beside its baseline: what is within the noise is the same."""

import pytest

from load_tests.results.comparison import Change


@pytest.mark.parametrize(
    ("before", "after", "more_is_better", "verdict"),
    [
        (100, 109, True, "same"),
        (100, 120, True, "better"),
        (100, 80, True, "worse"),
        (0.010, 0.020, False, "worse"),
        (0.010, 0.005, False, "better"),
    ],
)
def test_a_change_is_judged_by_its_direction(
    before: float, after: float, more_is_better: bool, verdict: str
) -> None:
    assert Change("number", before, after, more_is_better).verdict == verdict
