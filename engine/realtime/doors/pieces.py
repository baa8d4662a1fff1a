"""Long JSON lists in pieces, so that no one step of reading them keeps the interpreter for long.

A decoder holds the interpreter until it is done: 11 MB of rows kept everybody else waiting for 50 ms and
more, with the garbage collector's look at what came of them. So a list is cut behind its elements. A cut in
the midst of a text or of another list is not seen as one, but the piece before it does not decode then.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a msgspec decoder raises on bytes from outside."""
PIECE_BYTES = 64 << 10
"""A piece is so long or a little longer; it takes half a millisecond or so to decode."""
MAX_TAIL_BYTES = 64
"""More white space after a list is too odd to be cut."""


class Form(msgspec.Struct, frozen=True):
    """How a list is written: what comes before its first element, ends each but the last, comes after it."""

    before: re.Pattern[bytes]
    end: re.Pattern[bytes]
    after: re.Pattern[bytes]


def _form(before: bytes, end: bytes, after: bytes) -> Form:
    spaced = (re.compile(part.replace(b" ", rb"[ \t\n\r]*")) for part in (before, end, after))
    return Form(*spaced)


ROWS = _form(rb' \{ "rows" : \[', rb"\} ,", rb"\] \} \Z")
LEAVES = _form(rb" \[", rb",", rb"\] \Z")
LISTS = _form(rb" \[", rb"\] ,", rb"\] \Z")


def in_pieces(
    text: bytes | msgspec.Raw, form: Form, decode: Callable[[bytes], list[Any]]
) -> Iterator[list[Any]]:
    """The elements of a list, some at a time; if none of them raises, they are what the whole decodes to.

    Args:
        text: JSON.
        form: Its form.
        decode: Decodes a list of some elements.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: It is not of this form or cannot be cut
            like this, and perhaps it is no JSON at all.
    """
    for piece in _pieces(memoryview(text), form):
        elements = decode(piece)
        if not elements:
            raise msgspec.DecodeError("a comma without an element, or nothing at all")
        yield elements


def _pieces(text: memoryview, form: Form) -> Iterator[bytes]:
    tail_at = max(0, len(text) - MAX_TAIL_BYTES)
    first, last = form.before.match(text), form.after.search(text, tail_at)
    if first is None or last is None:
        raise msgspec.DecodeError("not of this form")
    at, stop = first.end(), last.start()
    while found := form.end.search(text, min(at + PIECE_BYTES, stop), stop):
        yield b"".join((b"[", text[at : found.end() - 1], b"]"))
        at = found.end()
    yield b"".join((b"[", text[at:stop], b"]"))


def decode_list(
    decoder: "msgspec.json.Decoder[list[Any]]", text: bytes | msgspec.Raw, form: Form
) -> list[Any]:
    """``decoder.decode(text)``, in pieces where it is long and can be cut."""
    if len(text) > PIECE_BYTES:
        try:
            return [element for some in in_pieces(text, form, decoder.decode) for element in some]
        except MALFORMED:
            pass
    return decoder.decode(text)
