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


class Door(msgspec.Struct, frozen=True, eq=False):
    """A way in and out: ``read`` raises ``InvalidRequest``; its work is counted under ``name``."""

    name: str
    read: Callable[[Revision, Call], Asked]
    write: Callable[[Revision, Asked, Result], Answer]


JSON = Door("json", infer_door.read, infer_door.write)
BINARY = Door("binary", infer_door.read, infer_door.write)
ROWS = Door("rows", score_door.read, score_door.write)
ARROW = Door("arrow", arrow_door.read, arrow_door.write)


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
