"""A generator for rates that Locust cannot make: one event loop over raw HTTP/1.1 sockets.

In an open loop requests are sent when they are due, whatever became of earlier ones, and latency
counts from then; a request waits only where all connections are busy, and that wait is the
engine's. In a closed loop each connection sends its next request when the last is answered.
"""

import gc
import math
import select
import socket
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from load_tests.fast.http_answer import Answer, parse_answer

READ_BYTES = 1 << 18
SPIN_S = 40e-6
"""Below this the next arrival is awaited by looking again; sleeping would overshoot it."""
READY_CONNECTIONS = 32
"""Opened before the first request is due."""
GRACE_S = 5.0
"""How long answers may take after the last request was due."""

Clock = Callable[[], float]


@dataclass(slots=True)
class Samples:
    """One entry per request, in the order in which they ended; times in seconds since the start."""

    due: "array[float]" = field(default_factory=lambda: array("d"))
    latency: "array[float]" = field(default_factory=lambda: array("d"))
    status: "array[int]" = field(default_factory=lambda: array("i"))
    delay: "array[float]" = field(default_factory=lambda: array("d"))
    n_late: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, due: float, latency: float, status: int) -> None:
        """Note one request that ended."""
        self.due.append(due)
        self.latency.append(latency)
        self.status.append(status)

    def blame(self, reason: str) -> None:
        """Note why a request failed."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class Patience:
    """When to end a run early: once more than ``n_late`` requests took longer than ``limit_s``."""

    limit_s: float = math.inf
    n_late: int = 0


FOREVER = Patience()


Tell = Callable[[int, Samples], None]


class _Connection:
    """One keep-alive connection with at most one request under way."""

    __slots__ = ("due", "received", "socket", "unsent")

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.due = 0.0
        self.received = b""
        self.unsent: memoryview | None = None


class FastGenerator:
    """Sends requests from this process and thread.

    Args:
        address: Host and port.
        payloads: Whole HTTP requests, sent in turn.
        n_connections: Requests under way at most.
        first: Index of the first payload, so that processes differ.
        patience: How many requests may be late, and when one is; more end the run early.
        tell: Hears the second that has passed and all samples so far, once a second.
    """

    def __init__(
        self,
        address: tuple[str, int],
        payloads: Sequence[bytes],
        *,
        n_connections: int,
        first: int = 0,
        patience: Patience = FOREVER,
        tell: Tell | None = None,
    ) -> None:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        self._family, self._address = found[0], found[4]
        self._payloads = payloads
        self._n_connections = n_connections
        self._next = first
        self._patience = patience
        self._tell = tell
        self._told = 0
        self._clock: Clock = time.perf_counter
        self._started = 0.0
        self._poll = select.epoll()
        self._busy: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self.samples = Samples()

    def run_open(self, arrivals: NDArray[np.float64]) -> Samples:
        """Send a request at each arrival (seconds since now, sorted); returns when all have ended."""
        due: deque[float] = deque(arrivals.tolist())
        waiting: deque[float] = deque()
        last = due[-1] if due else 0.0
        self._idle = [self._open() for _ in range(min(READY_CONNECTIONS, self._n_connections))]
        with uncollected():
            self._started = self._clock()
            while due or waiting or self._busy:
                now = self._now()
                self._tell_each_second(now)
                while due and due[0] <= now:
                    waiting.append(due.popleft())
                    self.samples.delay.append(now - waiting[-1])
                while waiting and (self._idle or len(self._busy) < self._n_connections):
                    self._send(waiting.popleft())
                if now > last + GRACE_S:
                    self._give_up([*waiting, *due], now)
                    break
                if self.samples.n_late > self._patience.n_late:
                    self._give_up(waiting, now)
                    break
                self._receive(due[0] - (self._now()) if due else 0.1)
        self._close()
        return self.samples

    def run_closed(self, duration_s: float) -> Samples:
        """Keep every connection busy for some seconds; returns when the last requests have ended."""
        with uncollected():
            self._started = self._clock()
            while (now := self._now()) < duration_s + GRACE_S:
                self._tell_each_second(now)
                if now < duration_s:
                    for _ in range(self._n_connections - len(self._busy)):
                        self._send(self._now())
                elif not self._busy:
                    break
                self._receive(0.1)
        self._give_up([], self._now())
        self._close()
        return self.samples

    def _now(self) -> float:
        return self._clock() - self._started

    def _tell_each_second(self, now: float) -> None:
        if self._tell is not None and now >= self._told + 1:
            self._told = int(now)
            self._tell(self._told, self.samples)

    def _send(self, due: float) -> None:
        payload = self._payloads[self._next % len(self._payloads)]
        self._next += 1
        connection = self._idle.pop() if self._idle else self._open()
        connection.due = due
        connection.received = b""
        self._busy[connection.socket.fileno()] = connection
        self._write(connection, memoryview(payload))

    def _write(self, connection: _Connection, content: memoryview) -> None:
        try:
            sent = connection.socket.send(content)
        except BlockingIOError:  # still connecting, or the engine reads slowly
            sent = 0
        except OSError as error:
            self._lose(connection, self._now(), error)
            return
        if sent < len(content):
            connection.unsent = content[sent:]
            self._poll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _receive(self, wait_s: float) -> None:
        """Handle what has come, waiting for it for a time at most."""
        if wait_s > SPIN_S:
            # An epoll's own timeout counts whole milliseconds, select's microseconds.
            select.select([self._poll], [], [], wait_s - SPIN_S / 2)
        for descriptor, event in self._poll.poll(0):
            connection = self._busy.get(descriptor)
            if connection is None:
                self._drop_idle(descriptor)
            elif event & select.EPOLLOUT and connection.unsent is not None:
                self._write_rest(connection)
            else:
                self._read(connection)

    def _write_rest(self, connection: _Connection) -> None:
        content, connection.unsent = connection.unsent, None
        self._poll.modify(connection.socket.fileno(), select.EPOLLIN)
        if content is not None:
            self._write(connection, content)

    def _read(self, connection: _Connection) -> None:
        try:
            content = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(connection, self._now(), error)
            return
        if not content:
            self._lose(connection, self._now(), ConnectionError("closed without an answer"))
            return
        connection.received += content
        answer = parse_answer(connection.received)
        if answer is not None:
            self._finish(connection, answer, self._now())

    def _finish(self, connection: _Connection, answer: Answer, now: float) -> None:
        status, closes = answer.status, answer.closes
        self.samples.add(connection.due, now - connection.due, status)
        if now - connection.due > self._patience.limit_s:
            self.samples.n_late += 1
        if not 200 <= status < 300:
            self.samples.blame(f"{status} {answer.body[:120].decode(errors='replace')}".strip())
        del self._busy[connection.socket.fileno()]
        if closes:
            self._forget(connection)
        else:
            self._idle.append(connection)

    def _lose(self, connection: _Connection, now: float, error: OSError) -> None:
        del self._busy[connection.socket.fileno()]
        self._forget(connection)
        self._fail(connection.due, now, error)

    def _fail(self, due: float, now: float, error: OSError) -> None:
        self.samples.add(due, now - due, 0)
        self.samples.blame(error.strerror or str(error))

    def _give_up(self, unsent: Iterable[float], now: float) -> None:
        for due in [*(connection.due for connection in self._busy.values()), *unsent]:
            self.samples.add(due, now - due, 0)
            self.samples.blame("no answer in time")

    def _drop_idle(self, descriptor: int) -> None:
        gone = [connection for connection in self._idle if connection.socket.fileno() == descriptor]
        for connection in gone:
            self._idle.remove(connection)
            self._forget(connection)

    def _open(self) -> _Connection:
        opened = socket.socket(self._family, socket.SOCK_STREAM)
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.connect_ex(self._address)
        self._poll.register(opened.fileno(), select.EPOLLIN)
        return _Connection(opened)

    def _forget(self, connection: _Connection) -> None:
        self._poll.unregister(connection.socket.fileno())
        connection.socket.close()

    def _close(self) -> None:
        for connection in [*self._idle, *self._busy.values()]:
            connection.socket.close()
        self._poll.close()


class uncollected:  # noqa: N801 - reads as a word in its with statement
    """No garbage collection inside: its pauses would count as the engine's latency."""

    def __enter__(self) -> None:
        gc.collect()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        gc.enable()
