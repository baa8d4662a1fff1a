"""The HTTP doors, and which of them a body comes through."""

from collections.abc import Callable, Mapping

import msgspec

from engine.errors import UnsupportedMedia
from engine.realtime.batching.waiting import Result
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


RAW_BYTES = 1 << 20
"""Raw numbers are seen where they are, or converted column by column."""
JSON_BYTES = 64 << 10
"""JSON of a few hundred rows, which takes a millisecond or two to read."""
TEXT_BYTES = 8 << 10
"""Raw texts become Python's one by one: short ones of so many bytes in three milliseconds."""
MANY_ROWS = 1024
"""Short JSON may hold thousands of tiny rows all the same; to explain a bad one takes 5 µs or more."""
FEW_BYTES = 2 * MANY_ROWS
"""Nothing so short can hold more of them: a number and its comma."""


class Door(msgspec.Struct, frozen=True, eq=False):
    """A way in and out.

    Attributes:
        name: Its work is counted under it.
        read: Raises ``InvalidRequest``.
        write: The answer.
        is_large: Whether a request, for so many features, is read and answered beside the event loop, because
            that may take long. A glance at it is enough to tell.
        may_name_deadline: Whether its body may say how long an answer is worth something.
    """

    name: str
    read: Callable[[Revision, Call], Asked]
    write: Callable[[Revision, Asked, Result], Answer]
    is_large: Callable[[Call, int], bool]
    may_name_deadline: Callable[[Call], bool]


def _large_tensors(call: Call, n_features: int) -> bool:
    body = call.body
    if FEW_BYTES < len(body) <= JSON_BYTES:
        return body.count(b",") > MANY_ROWS * max(1, n_features)
    return len(body) > JSON_BYTES


def _large_objects(call: Call, n_features: int) -> bool:  # noqa: ARG001 the doors' one signature
    body = call.body
    if FEW_BYTES < len(body) <= JSON_BYTES:
        return body.count(b"{") > MANY_ROWS
    return len(body) > JSON_BYTES


def _large_binary(call: Call, n_features: int) -> bool:  # noqa: ARG001
    if TEXT_BYTES < len(call.body) <= RAW_BYTES:
        return b'"BYTES"' in infer_door.json_of(call)
    return len(call.body) > RAW_BYTES


def _large_stream(call: Call, n_features: int) -> bool:  # noqa: ARG001
    return len(call.body) > RAW_BYTES


def _json_says_timeout(call: Call) -> bool:
    return b'"timeout"' in infer_door.json_of(call)


def _never(call: Call) -> bool:  # noqa: ARG001
    return False


JSON = Door("oip", infer_door.read, infer_door.write, _large_tensors, _json_says_timeout)
BINARY = Door("binary", infer_door.read, infer_door.write, _large_binary, _json_says_timeout)
ROWS = Door("rows", score_door.read, score_door.write, _large_objects, _never)
ARROW = Door("arrow", arrow_door.read, arrow_door.write, _large_stream, _never)


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
