"""A closed loop of unary gRPC calls over raw HTTP/2, for rates that a Python gRPC client cannot make.

Each connection has one call under way. Only what that needs of HTTP/2 (RFC 9113) is here: headers
are literal and never compressed, the windows we grant are as large as they can be, and of an answer
only frames are looked at: a call is answered where a message came before the stream's end, because
gRPC sends a status other than OK without one.
"""

import select
import socket
import time
from collections.abc import Sequence

from load_tests.fast.generator import READ_BYTES, Samples, uncollected

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
LARGEST_WINDOW = (1 << 31) - 1
FIRST_WINDOW = (1 << 16) - 1
WINDOW_SETTING = 4
GRACE_S = 5.0


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """One frame of HTTP/2."""
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + content


def header_block(path: str, authority: str) -> bytes:
    """The headers of a gRPC call, as literals that no table remembers (RFC 7541, 6.2.2)."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": authority,
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in headers.items())


def _literal(text: str) -> bytes:
    if len(text) >= 127:
        raise ValueError(f"expected fewer than 127 characters, got {len(text)}")
    return bytes((len(text),)) + text.encode()


def call_frames(stream: int, headers: bytes, message: bytes) -> bytes:
    """The frames of one call; its message is prefixed by a flag and its length, as gRPC has it."""
    prefixed = b"\x00" + len(message).to_bytes(4, "big") + message
    return frame(HEADERS, END_HEADERS, stream, headers) + frame(DATA, END_STREAM, stream, prefixed)


class GrpcConnection:
    """One connection with at most one call under way; bytes in, bytes out, no socket.

    Attributes:
        stream: Number of the call under way.
        unsent: Bytes to be sent: at first the connection's preface.
    """

    def __init__(self, headers: bytes) -> None:
        self._headers = headers
        self._received = bytearray()
        self._has_message = False
        self.stream = -1
        window = WINDOW_SETTING.to_bytes(2, "big") + LARGEST_WINDOW.to_bytes(4, "big")
        grown = (LARGEST_WINDOW - FIRST_WINDOW).to_bytes(4, "big")
        self.unsent = PREFACE + frame(SETTINGS, 0, 0, window) + frame(WINDOW_UPDATE, 0, 0, grown)

    def call(self, message: bytes) -> None:
        """Begin a call."""
        self.stream += 2
        self._has_message = False
        self.unsent += call_frames(self.stream, self._headers, message)

    def receive(self, content: bytes) -> bool | None:
        """Whether the call under way was answered, ``None`` while it goes on.

        Raises:
            ConnectionError: The server ends the connection.
        """
        received = self._received
        received += content
        ended: bool | None = None
        while len(received) >= 9:
            end = 9 + int.from_bytes(received[:3], "big")
            if len(received) < end:
                break
            stream = int.from_bytes(received[5:9], "big")
            found = self._take(received[3], received[4], stream, bytes(received[9:end]))
            ended = ended if found is None else found
            del received[:end]
        return ended

    def _take(self, kind: int, flags: int, stream: int, content: bytes) -> bool | None:
        if kind == GOAWAY:
            raise ConnectionError("the server ends the connection")
        if kind == SETTINGS and not flags & ACK:
            self.unsent += frame(SETTINGS, ACK, 0)
        elif kind == PING and not flags & ACK:
            self.unsent += frame(PING, ACK, 0, content)
        elif stream == self.stream:
            if kind == RESET:
                return False
            self._has_message |= kind == DATA and len(content) > 0
            if kind in {DATA, HEADERS} and flags & END_STREAM:
                return self._has_message
        return None


def run_closed_grpc(
    address: tuple[str, int], path: str, messages: Sequence[bytes], *, duration_s: float, connections: int
) -> Samples:
    """Keep every connection busy with one call at a time; statuses are 200 and 500.

    Args:
        address: Host and port.
        path: ``/package.Service/Method``.
        messages: Serialised requests, sent in turn.
        duration_s: How long calls are begun.
        connections: How many.
    """
    loop = _Loop(address, header_block(path, f"{address[0]}:{address[1]}"), messages, connections)
    with uncollected():
        return loop.run(duration_s)


class _Loop:
    def __init__(
        self, address: tuple[str, int], headers: bytes, messages: Sequence[bytes], connections: int
    ) -> None:
        self.samples = Samples()
        self._messages = messages
        self._next = 0
        self._begun: dict[int, float] = {}
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, GrpcConnection]] = {}
        for _ in range(connections):
            opened = socket.create_connection(address)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open[opened.fileno()] = (opened, GrpcConnection(headers))
            self._poll.register(opened.fileno(), select.EPOLLIN)

    def run(self, duration_s: float) -> Samples:
        self._started = time.perf_counter()
        for number in list(self._open):
            self._begin(number)
        while self._begun and self._now() < duration_s + GRACE_S:
            for number, _ in self._poll.poll(0.1):
                if self._receive(number) and self._now() < duration_s:
                    self._begin(number)
        for begun in self._begun.values():
            self.samples.add(begun, self._now() - begun, 0)
            self.samples.blame("no answer in time")
        for opened, _ in self._open.values():
            opened.close()
        self._poll.close()
        return self.samples

    def _now(self) -> float:
        return time.perf_counter() - self._started

    def _begin(self, number: int) -> None:
        opened, connection = self._open[number]
        connection.call(self._messages[self._next % len(self._messages)])
        self._next += 1
        self._begun[number] = self._now()
        self._send(opened, connection)

    def _receive(self, number: int) -> bool:
        """Read from a connection; whether its call has ended and another may begin."""
        opened, connection = self._open[number]
        try:
            content = opened.recv(READ_BYTES)
            if not content:
                raise ConnectionError("closed without an answer")
            answered = connection.receive(content)
            if connection.unsent:
                self._send(opened, connection)
        except OSError as error:
            self._lose(number, error)
            return False
        if answered is None or number not in self._begun:
            return False
        begun = self._begun.pop(number)
        self.samples.add(begun, self._now() - begun, 200 if answered else 500)
        if not answered:
            self.samples.blame("a status other than OK")
        return True

    def _lose(self, number: int, error: OSError) -> None:
        opened, _ = self._open.pop(number)
        self._poll.unregister(number)
        opened.close()
        begun = self._begun.pop(number, None)
        if begun is not None:
            self.samples.add(begun, self._now() - begun, 0)
            self.samples.blame(error.strerror or str(error))

    @staticmethod
    def _send(opened: socket.socket, connection: GrpcConnection) -> None:
        opened.sendall(connection.unsent)
        connection.unsent = b""
