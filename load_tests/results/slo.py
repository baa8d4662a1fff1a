"""A stated promise, such as ``p99=20ms``, and whether a run kept it."""

import re

import msgspec

from engine.errors import InvalidConfig
from load_tests.results.recording import Recording

_STATED = re.compile(r"p(\d+(?:\.\d+)?)\s*(?:<=|=|<)\s*(\d+(?:\.\d+)?)\s*(us|ms|s)")
_PER_S = {"us": 1e6, "ms": 1e3, "s": 1.0}


class Promise(msgspec.Struct, frozen=True):
    """A share of all requests is answered within a time.

    Attributes:
        percent: Of all requests sent; those shed, failed or never answered count as late.
        limit_s: The time from when a request was due.
    """

    percent: float
    limit_s: float

    def __str__(self) -> str:
        return f"p{self.percent:g} ≤ {1000 * self.limit_s:g} ms"


class Verdict(msgspec.Struct, frozen=True):
    """Whether a promise was kept.

    Attributes:
        promise: What was promised.
        kept: Whether it was.
        within: Share of all requests answered in time.
        goodput: Requests a second answered in time.
    """

    promise: Promise
    kept: bool
    within: float
    goodput: float


def parse_promise(text: str) -> Promise:
    """The promise that ``p99=20ms`` states; raises ``InvalidConfig``."""
    match = _STATED.fullmatch(text.strip().lower())
    if match is None or not 0 < float(match[1]) < 100 or not float(match[2]):
        raise InvalidConfig(f"expected an SLO such as p99=20ms or p99.9=0.1s, got {text!r}")
    return Promise(float(match[1]), float(match[2]) / _PER_S[match[3]])


def judge(promise: Promise, recording: Recording, duration_s: float) -> Verdict:
    """Whether a run kept a promise."""
    together = recording.latencies()
    n_lost = sum(second.shed + second.failed for second in recording.seconds.values())
    n_sent = together.n + n_lost
    n_within = together.fraction_within(promise.limit_s) * together.n if together.n else 0.0
    within = n_within / n_sent if n_sent else 0.0
    return Verdict(promise, within >= promise.percent / 100, within, n_within / duration_s)
