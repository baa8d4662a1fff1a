"""The HTTP doors, and which of them a body comes through."""

from collections.abc import Callable, Mapping

import msgspec

from engine.errors import UnsupportedMedia
from engine.realtime.batching.batcher import Result
from engine.realtime.doors import arrow as arrow_door
from engine.realtime.doors import infer as infer_door
from engine.realtime.doors import score as score_door
from engine.realtime.doors.answers import Answer
from engine.realtime.doors.arrow import ARROW_STREAM
from engine.realtime.doors.calls import Asked, Call
from engine.realtime.serving.served import Revision

JSON_TYPES = frozenset(
    {b"", b"application/json", b"application/x-www-form-urlencoded", b"application/octet-stream"}
)
"""Media types of a JSON body; curl's default among them."""


TEXT_BYTES = 64 << 10
"""JSON of a few hundred rows, which takes a millisecond or two to read."""
MANY_ROWS = 1024
"""Shorter JSON may hold thousands of tiny rows all the same; to explain a bad one takes 5 µs or more."""
FEW_BYTES = 2 * MANY_ROWS
"""Nothing so short can hold more of them: a number and its comma."""
RAW_BYTES = 1 << 20
"""Raw numbers are seen where they are, or converted column by column."""


class Door(msgspec.Struct, frozen=True, eq=False):
    """A way in and out.

    Attributes:
        name: Its work is counted under it.
        read: Raises ``InvalidRequest``.
        write: The answer.
        large_bytes: A longer body is large.
        rows_of: About how many rows a body of JSON holds for so many features; None for raw numbers.
    """

    name: str
    read: Callable[[Revision, Call], Asked]
    write: Callable[[Revision, Asked, Result], Answer]
    large_bytes: int
    rows_of: Callable[[bytes, int], int] | None

    def is_large(self, revision: Revision, body: bytes) -> bool:
        """Whether a body is read, and answered, beside the event loop, because that may take long."""
        if len(body) > self.large_bytes:
            return True
        if self.rows_of is None or len(body) <= FEW_BYTES:
            return False
        return self.rows_of(body, len(revision.datatypes)) > MANY_ROWS


def _rows_of_tensors(body: bytes, n_features: int) -> int:
    return body.count(b",") // max(1, n_features)


def _rows_of_objects(body: bytes, n_features: int) -> int:  # noqa: ARG001 the doors' one signature
    return body.count(b"{")


JSON = Door("json", infer_door.read, infer_door.write, TEXT_BYTES, _rows_of_tensors)
BINARY = Door("binary", infer_door.read, infer_door.write, RAW_BYTES, None)
ROWS = Door("rows", score_door.read, score_door.write, TEXT_BYTES, _rows_of_objects)
ARROW = Door("arrow", arrow_door.read, arrow_door.write, RAW_BYTES, None)


def door_for(verb: str, headers: Mapping[bytes, bytes]) -> Door:
    """The door for ``infer`` or ``score`` and a body's media type; raises ``UnsupportedMedia``."""
    media = headers.get(b"content-type", b"")
    if media not in JSON_TYPES:
        media = media.partition(b";")[0].strip().lower()
        if verb == "score" and media == ARROW_STREAM:
            return ARROW
        if media not in JSON_TYPES:
            expected = "application/json" + (f" or {ARROW_STREAM.decode()}" if verb == "score" else "")
            got = media[:80].decode("latin-1")
            raise UnsupportedMedia(f"expected {expected}, got Content-Type '{got}'")
    if verb == "score":
        return ROWS
    return BINARY if b"inference-header-content-length" in headers else JSON
