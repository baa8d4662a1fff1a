"""One HTTP connection: uvicorn's protocol with bounds on headers, on reading time and on its age."""

import math
import random
import socket
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from engine.realtime.doors.answers import CLOSE, Answer, json_answer
from engine.realtime.serving.app import Scoring, ScoringApp
from engine.realtime.serving.busy_polling import MOMENT_S, PROVED, BusyPolling
from engine.realtime.serving.heads import HEAD_END, KnownHeads
from engine.realtime.serving.listener import MAX_AGE_S
from engine.realtime.serving.passage import Passage
from engine.realtime.serving.unread import STEP_S, unread_s

MAX_HEAD_BYTES = 64 << 10
READ_TIMEOUT_S = 35.0
"""A request that is not read by then ends with its connection; the app gives up a body before."""
SHORT_BYTES = 64 << 10
"""A body of at most this many bytes is short: a hundred rows of JSON."""
LINGER_S = 2.0
LINGER_BYTES = 64 << 20
"""How long, and how much, a client may still send that has its answer already."""


class _NoEvent:
    """Stands where uvicorn would wake a task."""

    def set(self) -> None:
        """Nobody sleeps."""


class _Short:
    """A request answered past ASGI; has what uvicorn looks at in a connection's current cycle."""

    __slots__ = (
        "arrived_s", "body", "disconnected", "headers", "keep_alive", "passage", "response_complete",
        "scoring",
    )  # fmt: skip
    message_event = _NoEvent()

    def __init__(self, scoring: Scoring, headers: dict[bytes, bytes], body: bytes = b"") -> None:
        self.scoring = scoring
        self.headers = headers
        self.arrived_s = 0.0
        self.body = body
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False
        self.passage: Passage | None = None


class Connection(HttpToolsProtocol):
    """A connection that ends after ``max_age_s``, so that clients find new replicas.

    A scoring request with a short body is answered past ASGI: no scope, no task, one write; and past the
    parser if its head is known. The rest goes uvicorn's way. At most one request of a connection is under
    way; later ones wait in uvicorn's pipeline.
    """

    max_age_s = MAX_AGE_S

    def __init__(
        self,
        config: Config,
        state: ServerState,
        loop: Any,
        app: ScoringApp,
        heads: KnownHeads,
        polling: BusyPolling,
    ) -> None:
        super().__init__(config=config, server_state=state, app_state={}, _loop=loop)
        now_s = loop.time()
        self.reading_since_s: float | None = now_s
        self._retires_s = now_s + self.max_age_s * random.uniform(0.9, 1.1)  # noqa: S311 no secret
        self._idle_since_s = now_s
        self._in_head = False
        self._head_bytes = 0
        self._is_between = True
        self.url = b""
        self._keeps_alive = True
        self._lingers_since_s: float | None = None
        self._lingering_bytes = 0
        self._scoring_app = app
        self._heads = heads
        self._polling = polling
        self._answered_s = -math.inf
        self._times_at_once = 0
        self._short_bytes = min(SHORT_BYTES, app.max_body_bytes)
        self._short: _Short | None = None
        self._socket: socket.socket | None = None
        self._asgi_transport = SimpleNamespace()
        self._was_left_alone = True

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)
        here = transport.get_extra_info("socket")
        # Of the same descriptor, for questions only; uvloop's own makes one for each question.
        self._socket = socket.socket(here.family, here.type, here.proto, fileno=here.fileno())
        self._asgi_transport = SimpleNamespace(
            write=transport.write, is_closing=transport.is_closing, close=self._end
        )

    def data_received(self, data: bytes) -> None:
        """Take a known head with its body at once, else feed the parser and count what belongs to a head."""
        if self._lingers_since_s is not None:
            self._throw_away(data)
            return
        before, end = self._short, 0
        if self._is_between:
            end = data.find(HEAD_END) + len(HEAD_END)
            head = self._heads.get(data[:end])
            if head is not None and len(data) == end + head.length and self._is_free():
                self._begin(_Short(head.scoring, head.headers, data[end:]))
                return
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._in_head = False
                self._refuse(431, f"the request's head is over {MAX_HEAD_BYTES} bytes")
        elif end and self._is_between and self._short is not before:
            self._learn(data[:end], len(data) - end)

    def _learn(self, head: bytes, length: int) -> None:
        """Remember the head of the request that has just been read, if it came with its body and alone."""
        if (short := self._short) is not None and len(short.body) == length:
            self._heads.learn(head, short.scoring, short.headers, length)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and with it what waits for it."""
        super().connection_lost(exc)
        self._asgi_transport.close = self.transport.close  # not this, which leads to it
        if self._socket is not None:
            self._socket.detach()
        if self._short is not None and self._short.passage is not None:
            self._scoring_app.give_up(self._short.passage)

    def on_message_begin(self) -> None:
        """A request begins."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self.reading_since_s = self.loop.time()
        self._in_head = True
        self._is_between = False

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._in_head = False
        self._head_bytes = 0
        short = self._short_request()
        if short is None:
            self._start_asgi()
        else:
            self._short = short
            self.cycle = short  # type: ignore[assignment]  # has what is looked at
        if self.reading_since_s is not None and self.reading_since_s > self._retires_s:
            self.cycle.keep_alive = False
        if short is None:
            self._expect_body()

    def _expect_body(self) -> None:
        """Let an answer that comes before a long body's end close the connection, lest it be read in vain."""
        self._keeps_alive = self.cycle.keep_alive
        length = dict(self.headers).get(b"content-length")
        if length is None or int(length) > SHORT_BYTES:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        if (short := self._reading_short()) is not None:
            short.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Its body is there."""
        self.reading_since_s = None
        short = self._reading_short()
        if short is None:
            super().on_message_complete()
            if not self.cycle.response_started:
                self.cycle.keep_alive = self._keeps_alive
        else:
            self._is_between = True
            self._score(short)

    def _is_free(self) -> bool:
        """Whether a request can be answered at once: no other is under way, and answers are taken."""
        return (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _begin(self, short: "_Short") -> None:
        """Answer a request that the parser need not see."""
        self.reading_since_s = None
        self._short = short
        self.cycle = short  # type: ignore[assignment]  # has what is looked at
        if self.loop.time() > self._retires_s:
            short.keep_alive = False
        self._score(short)

    def _score(self, short: "_Short") -> None:
        waited_s = self._unread_s(short.scoring)
        now_s = time.perf_counter()
        short.arrived_s = now_s - waited_s
        self._polling.end()
        self._times_at_once = self._times_at_once + 1 if now_s - self._answered_s < MOMENT_S else 0
        deliver = partial(self._answer, short)
        short.passage = self._scoring_app.begin(
            short.scoring, short.headers, short.body, deliver, short.arrived_s, waited_s
        )

    def on_response_complete(self) -> None:
        """An answer is written: go on with a pipelined request, or be idle until the sweep."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self._was_left_alone = True
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._idle_since_s = self.loop.time()

    def _unread_s(self, scoring: Scoring) -> float:
        """How long the request lay in its socket; the kernel is asked only where it can be a while.

        The loop looks at a socket in each of its turns, but not before it is accepted or while it is paused.
        """
        was_left_alone, self._was_left_alone = self._was_left_alone, False
        if self._socket is None or not (was_left_alone or scoring[0].batcher.unread_s() >= STEP_S):
            return 0.0
        return unread_s(self._socket)

    def _reading_short(self) -> "_Short | None":
        """The short request whose body comes in now."""
        cycle: object = self.cycle
        return self._short if self._short is cycle else None

    def _short_request(self) -> "_Short | None":
        """The request if it can be answered past ASGI."""
        scoring = self._scoring_app.scoring.get(self.url)
        parser = self.parser
        if (
            scoring is None
            or parser.get_method() != b"POST"
            or not parser.should_keep_alive()
            or self.expect_100_continue
            or not self._is_free()
        ):
            return None
        headers = dict(self.headers)
        length = headers.get(b"content-length")
        if length is None or b"upgrade" in headers or b"transfer-encoding" in headers:
            return None
        # Without one of these, only HTTP/1.1 keeps its connection; the parser writes its version each time.
        says = b"connection" in headers or b"proxy-connection" in headers
        if says and parser.get_http_version() != "1.1":
            return None
        if int(length) > self._short_bytes:
            return None
        return _Short(scoring, headers)

    def _start_asgi(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers[:] = headers
        try:
            super().on_headers_complete()
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            raise ValueError("the request's path is no URL") from None
        self.cycle.transport = self._asgi_transport  # type: ignore[assignment]  # has what is used

    def _answer(self, short: "_Short", answer: Answer) -> None:
        """Write a whole answer at once. Its headers are ours and need no check."""
        self._scoring_app.ended(short.scoring, answer, short.arrived_s)
        if short.disconnected or self.transport.is_closing():
            return
        if not short.keep_alive and CLOSE not in answer.headers:
            answer.headers.append(CLOSE)
        head = b"\r\n".join(map(b": ".join, answer.headers))
        self.transport.write(b"%b%b\r\n\r\n%b" % (STATUS_LINE[answer.status], head, answer.body))
        short.response_complete = True
        if CLOSE in answer.headers:
            self.transport.close()
        self.on_response_complete()
        self._answered_s = time.perf_counter()
        if self._times_at_once >= PROVED and not self._scoring_app.in_flight:
            self._polling.begin(self._answered_s)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, as every error is answered."""
        self._refuse(400, msg)

    def close_if_stuck(self, now_s: float) -> None:
        """End the connection if it is idle for long, or if its request does not come in time."""
        if self._lingers_since_s is not None:
            if now_s - self._lingers_since_s > LINGER_S:
                self.transport.close()
            return
        if self.cycle is not None and self.cycle.response_complete and not self._in_head:
            if now_s - self._idle_since_s > self.timeout_keep_alive:
                self.transport.close()
            return
        if self.reading_since_s is None or now_s - self.reading_since_s < READ_TIMEOUT_S:
            return
        if not (self._in_head or self._reading_short()):
            self.transport.close()
        else:
            part = "head" if self._in_head else "body"
            self._refuse(408, f"the request's {part} did not arrive within {READ_TIMEOUT_S:g} s")

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer for the app, which does not see the request."""
        if self._lingers_since_s is not None or self.transport.is_closing():
            return
        answer = json_answer({"error": sentence}, status)
        answer.headers += ((b"content-length", b"%d" % len(answer.body)), CLOSE)
        self._log(answer)
        head = b"\r\n".join(map(b": ".join, answer.headers))
        self.transport.write(STATUS_LINE[status] + head + b"\r\n\r\n" + answer.body)
        self._linger()

    def _log(self, answer: Answer) -> None:
        """Tell the access log of an answer, with what has been read of its request."""
        method = self.parser.get_method().decode() if self.url else ""
        path = self.url.partition(b"?")[0].decode("latin-1")
        reads_s = 0.0 if self.reading_since_s is None else self.loop.time() - self.reading_since_s
        self._scoring_app.log_access(method, path, answer, time.perf_counter() - reads_s)

    def _end(self) -> None:
        """Close the connection, as soon as its client has read the answer where it still sends."""
        if self.reading_since_s is None:
            self.transport.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Read on for a while: closing at once would reset what the client sends still, and its answer."""
        self._in_head = False
        self._lingers_since_s = self.loop.time()
        self.pipeline.clear()
        if self.cycle is not None:  # whatever else is answered finds nobody
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self.transport.write_eof()

    def _throw_away(self, data: bytes) -> None:
        self._lingering_bytes += len(data)
        if self._lingering_bytes > LINGER_BYTES:
            self.transport.close()
