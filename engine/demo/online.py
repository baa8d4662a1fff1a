"""Sends held-out rows to a running engine over HTTP and compares its scores with the batch's, bit by bit."""

import http.client
import time
from dataclasses import dataclass

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.demo.flights import FEATURES
from engine.errors import Failed

ROWS_PER_REQUEST = 512
# The comparison is about bits; the promise on latency must not turn rows away on a busy machine.
HEADERS = {"Content-Type": "application/json", "Tandem-Timeout-S": "30"}


@dataclass(frozen=True, slots=True, eq=False)
class OnlineScores:
    """What an engine answered.

    Attributes:
        scores: float64[n], in the order of the rows.
        seconds: How long one connection needed for all of them, encoding left out.
    """

    scores: NDArray[np.float64]
    seconds: float


def score_online(port: int, model: str, table: pl.DataFrame) -> OnlineScores:
    """Scores of all rows, sent as JSON over one connection, ``ROWS_PER_REQUEST`` at a time."""
    bodies = [
        msgspec.json.encode({"rows": slab.to_dicts()})
        for slab in table.select(FEATURES).iter_slices(ROWS_PER_REQUEST)
    ]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)
    started = time.monotonic()
    try:
        answers = [_post(connection, f"/v1/models/{model}/score", body) for body in bodies]
    finally:
        connection.close()
    seconds = time.monotonic() - started
    return OnlineScores(np.concatenate([_scores(answer) for answer in answers]), seconds)


def n_differing(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> int:
    """How many scores differ in any bit; raises ``Failed`` where there are not equally many."""
    if ours.shape != theirs.shape:
        raise Failed(f"expected {ours.shape[0]} online scores, got {theirs.shape[0]}")
    return int(np.count_nonzero(ours.view(np.int64) != theirs.view(np.int64)))


def _post(connection: http.client.HTTPConnection, path: str, body: bytes) -> bytes:
    connection.request("POST", path, body, HEADERS)
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise Failed(
            f"expected scores, got status {response.status}: {content[:200].decode(errors='replace')}"
        )
    return content


def _scores(answer: bytes) -> NDArray[np.float64]:
    decoded = msgspec.json.decode(answer)
    return np.asarray(decoded["scores"], dtype=np.float64)
