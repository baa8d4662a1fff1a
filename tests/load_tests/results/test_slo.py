"""A promise counts every request sent, not only those answered."""

import pytest

from engine.errors import InvalidConfig
from load_tests.results.recording import Recording
from load_tests.results.slo import Promise, judge, parse_promise


@pytest.mark.parametrize(
    ("text", "promise"),
    [
        ("p99=20ms", Promise(99, 0.02)),
        ("p99.9 <= 0.1s", Promise(99.9, 0.1)),
        ("P50=800us", Promise(50, 0.0008)),
    ],
)
def test_a_promise_is_read(text: str, promise: Promise) -> None:
    assert parse_promise(text) == promise


@pytest.mark.parametrize("text", ["", "p99", "20ms", "p0=1ms", "p100=1ms", "p99=0ms", "p99=20", "q99=20ms"])
def test_what_is_no_promise_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="expected an SLO such as"):
        parse_promise(text)


def recorded(*, fast: int, slow: int, shed: int) -> Recording:
    recording = Recording()
    for status, latency_s, n in ((200, 0.001, fast), (200, 0.5, slow), (429, 0.001, shed)):
        for _ in range(n):
            recording.add(0.0, latency_s, status)
    return recording


def test_fast_answers_keep_it() -> None:
    verdict = judge(Promise(90, 0.02), recorded(fast=95, slow=5, shed=0), 10.0)
    assert (verdict.kept, verdict.within, verdict.goodput) == (True, 0.95, 9.5)


def test_refusing_quickly_does_not_keep_it() -> None:
    verdict = judge(Promise(90, 0.02), recorded(fast=80, slow=0, shed=20), 10.0)
    assert (verdict.kept, verdict.within) == (False, 0.8)


def test_a_run_without_requests_keeps_nothing() -> None:
    assert not judge(Promise(99, 0.02), Recording(), 1.0).kept
