"""Heads that were read before: a client sends the same bytes with each of its requests, but for the body.

What the parser made of a head it would make of it again, so a request whose head is known, and which came
in one piece, is taken apart by one look for the empty line and one look into a table.
"""

import msgspec

from engine.realtime.serving.app import Scoring

HEAD_END = b"\r\n\r\n"
MOST_HEADS = 1024
"""Heads that are kept; lengths of bodies make a few dozen of each client's."""
MOST_HEAD_BYTES = 2048
"""A longer head is not kept."""


class Head(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a scoring request's head says.

    Attributes:
        scoring: What its path asks for.
        headers: Names in lower case; shared by all requests with this head.
        length: Of the body.
    """

    scoring: Scoring
    headers: dict[bytes, bytes]
    length: int


class KnownHeads:
    """The heads of short scoring requests that keep their connection; ``get`` finds one by its bytes."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self.get = self._heads.get

    def learn(self, head: bytes, scoring: Scoring, headers: dict[bytes, bytes], length: int) -> None:
        """Remember what the parser made of a head; where there are too many, begin anew."""
        if len(head) > MOST_HEAD_BYTES:
            return
        if len(self._heads) == MOST_HEADS:
            self._heads.clear()
        self._heads[head] = Head(scoring, headers, length)
