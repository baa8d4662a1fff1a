"""The benchmark of the counters: its arithmetic."""

import re

import numpy as np

from load_tests.counting import WAYS, table


def test_a_cost_is_what_a_request_takes_more_while_it_is_counted():
    blocks = np.full((50, len(WAYS), 3), [100.0, 0.010, 0.008])
    blocks[:, 0, 1] *= 1.1
    blocks[:, 0, 2] *= 1.25
    first, second = table(blocks, 64).splitlines()[2:]
    assert re.findall(r"[+-][\d.]+%", first) == ["+10.0%"] * 3 + ["+0.0%"] * 3
    assert re.findall(r"[+-][\d.]+%", second) == ["+25.0%"] * 3 + ["+0.0%"] * 3
    assert "| requests/s, 9,091 |" in first


def test_what_falls_into_few_windows_counts_as_much():
    blocks = np.full((100, len(WAYS), 3), [100.0, 0.010, 0.010])
    blocks[::10, 0, 1:] += 0.010  # on average a tenth more, in the median nothing
    assert "+10.0%" in table(blocks, 1).splitlines()[2]
