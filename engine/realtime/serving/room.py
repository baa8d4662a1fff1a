"""The memory of request bodies that are there at the same time, over HTTP and gRPC together."""

from engine.errors import Overloaded

BODIES_AT_ONCE = 16
"""Bodies of the largest size that are there at the same time; those answered past ASGI are not counted."""
SHORT_BODY_BYTES = 1 << 16
"""Bodies up to it have the room of one more to themselves, however many long ones there are."""


class Room:
    """Room for ``BODIES_AT_ONCE`` of the largest bodies.

    Attributes:
        held_bytes: What is there.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self.held_bytes = 0

    def check(self, n_bytes: int, *, is_short: bool = False) -> None:
        """Raise ``Overloaded`` if there is no room for so many bytes more."""
        if self.held_bytes + n_bytes > (BODIES_AT_ONCE + is_short) * self._max_body_bytes:
            raise Overloaded(f"bodies of {self.held_bytes} bytes are here already; try again later")


class Held:
    """What one request holds of a room.

    What has arrived of a body counts, not what its client has announced: else some clients that announce
    much and send nothing would keep everybody else out.
    """

    __slots__ = ("_n_bytes", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._n_bytes = 0

    def add(self, n_bytes: int) -> None:
        """Hold so many bytes more; raises ``Overloaded``."""
        self._room.check(n_bytes, is_short=self._n_bytes + n_bytes <= SHORT_BODY_BYTES)
        self._room.held_bytes += n_bytes
        self._n_bytes += n_bytes

    def release(self) -> None:
        """Hold nothing any more; a second time changes nothing."""
        self._room.held_bytes -= self._n_bytes
        self._n_bytes = 0
