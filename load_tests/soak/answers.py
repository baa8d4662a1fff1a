"""The scores in answers of every wire, as bits that can be compared."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from load_tests.payloads.wire import Wire
from load_tests.soak.inputs import Payload

SCORE_BYTES = 8
"""A score is a float64."""


def n_scores(payloads: Sequence[Payload], answers: Mapping[int, Mapping[int, bytes]]) -> int:
    """Most different scores that the same rows had.

    Args:
        payloads: What was sent.
        answers: Index of a payload → its different answers, by anything.
    """
    scores: dict[tuple[int, int], set[bytes]] = {}
    for index, bodies in answers.items():
        payload = payloads[index]
        found = scores.setdefault(payload.rows, set())
        found.update(scores_in(payload.wire, body, payload.rows[1]) for body in bodies.values())
    return max(map(len, scores.values()), default=0)


def scores_in(wire: Wire, body: bytes, n_rows: int) -> bytes:
    """The scores of an answer's rows, as float64 one after the other."""
    match wire:
        case "rows":
            return _packed(msgspec.json.decode(body)["scores"])
        case "oip":
            return _packed(msgspec.json.decode(body)["outputs"][0]["data"])
        case "arrow":
            return _packed(pa.ipc.open_stream(body).read_all().column(0).to_pylist())
        case "binary" | "grpc":  # raw bytes, and the last ones of the message
            return body[-n_rows * SCORE_BYTES :]


def _packed(scores: Sequence[float]) -> bytes:
    return np.asarray(scores, "<f8").tobytes()
