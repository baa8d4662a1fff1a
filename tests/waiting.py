"""Waiting for what happens in another thread or process; the one place of the tests that sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def wait_until(condition: Callable[[], Answer], within_s: float = 60.0, every_s: float = 0.02) -> Answer:
    """The first true answer of ``condition``; fails if there is none in time."""
    ends_s = time.monotonic() + within_s
    while not (answer := condition()):
        assert time.monotonic() < ends_s, f"it did not happen within {within_s:g} s"
        time.sleep(every_s)
    return answer
