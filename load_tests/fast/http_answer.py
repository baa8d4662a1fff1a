"""Finds the end of an HTTP/1.1 answer in received bytes, quickly, for answers as servers send them."""

from typing import NamedTuple


class Answer(NamedTuple):
    """A whole answer: its status, its body, and whether the server closes the connection after it."""

    status: int
    body: bytes
    closes: bool


def parse_answer(received: bytes) -> Answer | None:
    """The answer in these bytes, ``None`` while more must come.

    Raises:
        ValueError: It is no HTTP answer with a length or chunks.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = received[:end].lower()
    status = int(head[9:12])
    body = received[end + 4 :]
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        stop = head.find(b"\r\n", at + 2)
        length = int(head[at + 17 : stop if stop >= 0 else end])
        complete = len(body) >= length
    elif b"\r\ntransfer-encoding: chunked" in head:
        complete = body.endswith(b"0\r\n\r\n")
    else:
        complete = status in {204, 304}
        if not complete:
            raise ValueError(f"expected an answer with a length, got {head[:200]!r}")
    closes = b"\r\nconnection: close" in head or head.startswith(b"http/1.0")
    return Answer(status, body, closes) if complete else None
