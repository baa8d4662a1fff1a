"""An HTTP answer as a value, and how errors become one."""

import math

import msgspec

from engine.errors import Refused, TandemError, UnsupportedEncoding, WrongMethod
from engine.realtime.doors.statuses import http_status

Headers = list[tuple[bytes, bytes]]
MAX_SENTENCE = 1000
"""Characters of an error that are answered."""
CLOSE = (b"connection", b"close")
JSON = (b"content-type", b"application/json")
ACCEPTED_ENCODINGS = (b"accept-encoding", b"gzip, deflate")


class Answer(msgspec.Struct, eq=False, gc=False):
    """Status, headers without the length, and body."""

    status: int
    headers: Headers
    body: bytes


def json_answer(value: object, status: int = 200) -> Answer:
    """A value as JSON."""
    return Answer(status, [JSON], msgspec.json.encode(value))


def sentence(error: TandemError) -> str:
    """What an error says, cut where it quotes too much of a request."""
    text = str(error)
    return text if len(text) <= MAX_SENTENCE else f"{text[:MAX_SENTENCE]}…"


def error_answer(error: TandemError) -> Answer:
    """The one form of every error: its status and ``{"error": sentence}``."""
    answer = json_answer({"error": sentence(error)}, http_status(error))
    if isinstance(error, Refused):
        answer.headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    if isinstance(error, WrongMethod):
        answer.headers.append((b"allow", error.allowed.encode()))
    if isinstance(error, UnsupportedEncoding):
        answer.headers.append(ACCEPTED_ENCODINGS)
    return answer
