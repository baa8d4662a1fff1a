"""Request bodies: read within bounds of size and time, and inflated within the same bound."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from engine.errors import BodyTooLarge, InvalidRequest, SlowBody, UnsupportedEncoding

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

BODY_TIMEOUT_S = 30.0
"""A body that took longer than this to arrive is given up."""
MAX_MEMBERS = 1024
"""Compressed data of so many members is read at most; what ``bgzip`` makes of 64 MB has as many."""
PIECE_BYTES = 64 << 10
"""Compressed bytes are taken so many at a time: zlib copies what comes after a member's end."""
_WINDOW_BITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}


class Disconnected(Exception):
    """The client went away in the middle of its body."""


async def read_body(receive: Receive, length: bytes | None, limit: int, hold: Callable[[int], None]) -> bytes:
    """The body of a request, at most ``limit`` bytes.

    Args:
        receive: ASGI.
        length: The ``Content-Length`` header, if there is one.
        limit: Refused beyond, as soon as it is known.
        hold: Told of bytes when they have arrived; may raise.

    Raises:
        BodyTooLarge: At the header if it says so, else at the first byte too many.
        SlowBody: It did not arrive in time.
        Disconnected: Nobody is there to answer to.
    """
    if length is not None and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        hold(len(body))
        return body
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read_rest(message, receive, limit, hold)
    except TimeoutError:
        raise SlowBody(f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from None


async def _read_rest(message: Message, receive: Receive, limit: int, hold: Callable[[int], None]) -> bytes:
    parts, size = [], 0
    while True:
        if message["type"] != "http.request":
            raise Disconnected
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        hold(len(part))
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    """A body without its ``Content-Encoding``; never more than ``limit`` bytes are made of it."""
    encoding = encoding.strip().lower()
    if encoding in (b"", b"identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise UnsupportedEncoding(
            f"expected Content-Encoding gzip or deflate, got '{encoding.decode('latin-1')}'"
        )
    try:
        return _inflate(body, encoding, limit)
    except zlib.error as error:
        raise InvalidRequest(f"the body is no {encoding.decode()}: {error}") from error


def _inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    """The members of a gzip body one after another (RFC 1952, 2.2); a deflate body is one."""
    rest, parts, room = memoryview(body), list[bytes](), limit
    for _ in range(MAX_MEMBERS if _WINDOW_BITS[encoding] == 31 else 1):
        member = zlib.decompressobj(_WINDOW_BITS[encoding])
        while rest and not member.eof:
            parts.append(member.decompress(rest[:PIECE_BYTES], room + 1))
            room -= len(parts[-1])
            if room < 0:
                raise _too_large(limit)
            rest = rest[min(PIECE_BYTES, len(rest)) - len(member.unused_data) :]
        if not member.eof:
            raise InvalidRequest(f"the {encoding.decode()} body is cut short")
        if not rest:
            return b"".join(parts)
    raise InvalidRequest(f"the {encoding.decode()} body is followed by other bytes")


def deflate(body: bytes, accepted: bytes) -> tuple[bytes, bytes] | None:
    """The body compressed and the encoding's name, if the client accepts one that we speak."""
    offers = {part.split(b";")[0].strip().lower(): part for part in accepted.split(b",")}
    for encoding in (b"gzip", b"deflate"):
        if encoding in offers and b"q=0" not in offers[encoding].replace(b" ", b"").split(b";")[1:]:
            compressor = zlib.compressobj(1, wbits=_WINDOW_BITS[encoding])
            return compressor.compress(body) + compressor.flush(), encoding
    return None


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is over {limit} bytes; send the rows in parts")
