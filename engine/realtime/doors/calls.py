"""A request on its way through a door: what came, and what it asks of a model."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidRequest

MAX_TIMEOUT_US = (1 << 63) - 1


class Call(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What an HTTP door reads.

    Attributes:
        body: Inflated.
        json_length: The ``Inference-Header-Content-Length`` header.
        timeout_s: The caller's own deadline if it has one, else the model's promise.
        max_rows: More are refused.
    """

    body: bytes
    json_length: bytes | None
    timeout_s: float
    max_rows: int


class Asked(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a door has read.

    Attributes:
        X: Prepared rows.
        bad: Rows that are not to be scored, with the reason.
        budget_s: How long after its arrival the answer is worth something.
        request: What the door needs again to write the answer.
    """

    X: NDArray[np.floating[Any]]
    bad: dict[int, str]
    budget_s: float
    request: Any = None


def budget_s(parameters: Mapping[str, Any], timeout_s: float) -> float:
    """The ``timeout`` parameter in microseconds, else what holds without it."""
    timeout = parameters.get("timeout")
    if timeout is None or timeout == 0:
        return timeout_s
    if type(timeout) is not int or not 0 < timeout <= MAX_TIMEOUT_US:
        raise InvalidRequest(f"expected microseconds in parameter 'timeout', got {str(timeout)[:40]}")
    return timeout / 1e6


def timeout_of(header: bytes | None) -> float | None:
    """Seconds in a ``Tandem-Timeout-S`` header; raises ``InvalidRequest``."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        got = header[:40].decode("latin-1")
        raise InvalidRequest(f"expected seconds in header Tandem-Timeout-S, got '{got}'")
    return seconds
