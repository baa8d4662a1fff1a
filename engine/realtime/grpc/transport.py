"""A gRPC server on grpcio's C core, driven from a running event loop.

A thread waits for the core, and the loop is woken once for all that came meanwhile. An echo on grpcio's own
asyncio server takes four times the processor time a call, with fifteen switches of threads instead of one.

The one module that knows ``cygrpc``, which is private to grpcio: what is used of it is what grpcio's own
synchronous server uses, the same in 1.70 and 1.85.
"""

import asyncio
import contextlib
import inspect
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc._cython import cygrpc

from engine.realtime.futures import settle

log = logging.getLogger(__name__)

Metadata = tuple[tuple[bytes, bytes], ...]
Begin = Callable[["Call", Any], object]
"""Begins to answer a call with its only message; the answer may come any time later."""

CALLS_AWAITED = 64
"""The core is asked for so many calls beforehand."""
CALLS_WAITING = 100_000
"""So many more may wait in the core for the thread that takes them. Beyond a thousand, its own limit, it
would end some at random as cancelled; to refuse is up to the handlers."""
FAR_S = 1e9
"""The core's deadline of a call without one is centuries away."""
BUG = "a bug in the engine; its log has the details"
STOPPING = "the server is stopping; send elsewhere what has no answer"
IDLE_S = 0.05
"""A server that stops ends streams that are idle for so long: what has come by then is read before."""
BUSY_S = 2.0
"""A server that stops reads so long from streams that are never idle, and answers what it has read."""
HOLD_S = 0.01
"""A server that is about to stop holds answers back for so long, and sends them behind its GOAWAYs: the core
ends calls as CANCELLED that come before a client has read its own, and who waits for an answer makes none."""
_OK = cygrpc.StatusCode.ok
_STOPPED = cygrpc.CompletionType.queue_shutdown


class Aborted(Exception):
    """A handler has ended its call itself."""


class Call:
    """A call under way, and the context that its handler sees; used on the event loop's thread.

    Args:
        server: It came there.
        arrival: The core's event.

    Attributes:
        arrived_s: When it came, by ``time.perf_counter``.
        method: ``/package.Service/Method``.
        on_leave: Called when the client is gone, or its deadline passed, before the call was ended.
        serialize: From what ``write`` takes to bytes.
    """

    __slots__ = (
        "_call", "_deadline_s", "_ended", "_greeted", "_server", "_trailing", "arrived_s", "method",
        "on_leave", "serialize",
    )  # fmt: skip

    def __init__(self, server: "CoreServer", arrival: Any) -> None:
        self.arrived_s = time.perf_counter()
        self._server = server
        self._call = arrival.call
        self._deadline_s: float = arrival.call_details.deadline
        self.method: str = arrival.call_details.method.decode("latin-1")
        self.on_leave: Callable[[], object] = _nothing
        self.serialize: Callable[[Any], bytes] = bytes
        self._trailing: Metadata = ()
        self._greeted = self._ended = False

    def time_remaining(self) -> float | None:
        """Seconds until its deadline; None where it has none."""
        left_s = self._deadline_s - time.time()
        return None if left_s > FAR_S else max(left_s, 0.0)

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """What to send after the answer."""
        self._trailing = metadata

    def end(self, message: bytes | None = None) -> None:
        """End the call well, with its only message, or without one where they were written before."""
        self._end(_OK, b"", [] if message is None else [cygrpc.SendMessageOperation(message, 0)])

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """End the call with another status than OK."""
        self._end(code.value[0], details.encode(), [])

    async def abort(self, code: grpc.StatusCode, details: str = "") -> None:
        """End the call with another status than OK, and the handler with it."""
        self.fail(code, details)
        raise Aborted

    async def read(self) -> bytes | None:
        """The next message of a stream; None at its end. A server that stops ends the call instead."""
        if asyncio.get_running_loop().time() > self._server.reads_until_s:
            await self.abort(grpc.StatusCode.UNAVAILABLE, STOPPING)
        receive = cygrpc.ReceiveMessageOperation(0)
        with self.idle():
            await self._done(self.start, receive)
        message: bytes | None = receive.message()
        return message

    async def write(self, message: Any) -> None:
        """Send a message of a stream; returns when the client can take the next."""
        message = cygrpc.SendMessageOperation(self.serialize(message), 0)
        await self._done(self._send, *self._greeting(), message)

    @contextlib.contextmanager
    def idle(self) -> Iterator[None]:
        """A stream in here has no request under way, and is ended soon when the server stops."""
        self._server.idle_since_s[self] = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            del self._server.idle_since_s[self]

    def stop(self) -> None:
        """End the call because the server ends, and what answers it."""
        # Not as OK, of which tritonclient tells nobody, and takes requests that are never answered.
        leave = self.on_leave
        self.fail(grpc.StatusCode.UNAVAILABLE, STOPPING)
        leave()

    def begin(self, begin: Begin, message: bytes | None) -> None:
        """Take the call's only message, or learn that there is none; those of a stream are read later."""
        if self._ended:
            return
        try:
            begin(self, message)
        except Exception:
            log.exception("a call could not be begun")
            self.fail(grpc.StatusCode.INTERNAL, BUG)

    def left(self) -> None:
        """Learn that the client is gone."""
        if not self._ended:
            self._ended = True
            self.on_leave()
        self.on_leave = _nothing

    def start(self, operations: Sequence[Any], tag: Callable[[Any], object]) -> None:
        """Let the core do something; it calls ``tag`` with the event, on the thread that waits for it."""
        self._call.start_server_batch(operations, tag)

    def _end(self, code: int, details: bytes, messages: list[Any]) -> None:
        if self._ended:
            return
        self._ended, self.on_leave = True, _nothing
        status = cygrpc.SendStatusFromServerOperation(self._trailing, code, details, 0)
        self._send((*self._greeting(), *messages, status), _nothing)

    def _send(self, operations: Sequence[Any], tag: Callable[[Any], object]) -> None:
        if (held := self._server.held) is None:
            self.start(operations, tag)
        else:
            held.append(partial(self.start, operations, tag))

    def _greeting(self) -> tuple[Any, ...]:
        if self._greeted:
            return ()
        self._greeted = True
        return (cygrpc.SendInitialMetadataOperation((), 0),)

    async def _done(self, start: Callable[..., None], *operations: Any) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        start(operations, partial(self._server.soon, partial(_wake, future)))
        await future


class CoreServer:
    """Listens, and hands calls to handlers within the running event loop.

    Args:
        options: Channel arguments of the core.
        begins: What begins to answer a unary method without a task, by path.

    Attributes:
        idle_since_s: Streams that have no request under way, and since when, by the loop's time.
        reads_until_s: Streams are read until then, by the loop's time.
        held: What is to be sent, while answers are held back.
    """

    def __init__(self, options: Sequence[tuple[str, int]], begins: Mapping[str, Begin]) -> None:
        self._loop = asyncio.get_running_loop()
        self._begins: dict[str, Begin] = {
            path: partial(_with_message, begin) for path, begin in begins.items()
        }
        self._streams: dict[str, Begin] = {}
        self.idle_since_s: dict[Call, float] = {}
        self.reads_until_s = math.inf
        self.held: list[Callable[[], None]] | None = None
        waiting = [
            (f"grpc.server.max_pending_requests{limit}", CALLS_WAITING) for limit in ("", "_hard_limit")
        ]
        self._server = cygrpc.Server((*options, *waiting), False)
        self._queue = cygrpc.CompletionQueue()
        self._server.register_completion_queue(self._queue)
        self._todo: deque[tuple[Callable[[Any], object], Any]] = deque()
        self._woken = False
        self._thread = threading.Thread(target=self._wait, name="grpc", daemon=True)

    def add_registered_method_handlers(
        self, service: str, handlers: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
    ) -> None:
        """Answer methods by coroutines and asynchronous generators, as grpcio's generated code wants it."""
        for method, handler in handlers.items():
            begin, path = partial(_begin_task, handler), f"/{service}/{method}"
            if handler.request_streaming:
                self._streams[path] = begin
            else:
                self._begins.setdefault(path, partial(_with_message, begin))

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The other half of what generated code does, for the same methods."""

    def add_insecure_port(self, address: str) -> int:
        """Bind; raises ``RuntimeError``."""
        port: int = self._server.add_http2_port(address.encode())
        if port == 0:
            raise RuntimeError(f"cannot bind {address}")
        return port

    def start(self) -> None:
        """Listen from now on."""
        self._server.start()
        for _ in range(CALLS_AWAITED):
            self._await_call()
        self._thread.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, end streams, let what is under way end for so long, then cancel it."""
        now_s = self._loop.time()
        ends_s, self.reads_until_s = now_s + grace_s, now_s + BUSY_S
        held = self.held = []
        await asyncio.sleep(HOLD_S)
        stopped = self._loop.create_future()
        self._server.shutdown(self._queue, partial(self.soon, partial(_wake, stopped)))
        self.held = None
        for send in held:
            send()
        while not stopped.done() and (left_s := ends_s - self._loop.time()) > 0:
            await asyncio.wait((stopped,), timeout=min(IDLE_S, left_s))
            self._end_idle_streams()
        if not stopped.done():
            self._server.cancel_all_calls()
            await stopped
        self._server.destroy()
        self._queue.shutdown()
        await self._loop.run_in_executor(None, self._thread.join)

    def soon(self, callback: Callable[[Any], object], argument: Any) -> None:
        """Call back on the loop; from the thread that waits."""
        self._todo.append((callback, argument))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._run)

    def _end_idle_streams(self) -> None:
        now_s = self._loop.time()
        for call, since_s in self.idle_since_s.items():
            if now_s - since_s >= IDLE_S:
                call.stop()

    def _run(self) -> None:
        self._woken = False  # first: what is added from now on wakes the loop again
        for _ in range(len(self._todo)):
            callback, argument = self._todo.popleft()
            try:
                callback(argument)
            except Exception:
                log.exception("an event of a call could not be handled")

    def _wait(self) -> None:
        while True:
            event = self._queue.poll()
            if event.completion_type == _STOPPED:
                return
            try:
                event.tag(event)
            except Exception:
                log.exception("an event of the core could not be handled")
            del event  # it may hold the last reference to a call, which must not outlive the server

    def _await_call(self) -> None:
        self._server.request_call(self._queue, self._queue, self._arrived)

    def _arrived(self, event: Any) -> None:
        if not event.success:
            return
        with contextlib.suppress(ValueError):  # shutting down: there are no more
            self._await_call()
        call = Call(self, event)
        call.start((cygrpc.ReceiveCloseOnServerOperation(0),), partial(self._closed, call))
        if begin := self._begins.get(call.method):
            call.start((cygrpc.ReceiveMessageOperation(0),), partial(self._received, begin, call))
        elif begin := self._streams.get(call.method):
            self.soon(partial(call.begin, begin), None)
        else:
            self.soon(partial(call.fail, grpc.StatusCode.UNIMPLEMENTED), f"no method {call.method}")

    def _received(self, begin: Begin, call: Call, event: Any) -> None:
        self.soon(partial(call.begin, begin), event.batch_operations[0].message())

    def _closed(self, call: Call, event: Any) -> None:
        if event.batch_operations[0].cancelled():
            self.soon(Call.left, call)


def unreadable(error: DecodeError) -> str:
    """What to say of a message of another form."""
    return f"the message cannot be read: {error}"


def _nothing(*_: object) -> None:
    """Nobody wants to know."""


def _wake(future: "asyncio.Future[None]", _: Any) -> None:
    # Without the event, which leads to the future: a circle that keeps the message alive.
    settle(future, None)


def _with_message(begin: Begin, call: Call, message: bytes | None) -> None:
    if message is None:  # where it was too long, the core has said so before
        call.fail(grpc.StatusCode.UNIMPLEMENTED, "expected a message, got none")
    else:
        begin(call, message)


def _begin_task(handler: Any, call: Call, message: bytes | None) -> None:
    call.serialize = handler.response_serializer
    call.on_leave = asyncio.get_running_loop().create_task(_answer(handler, call, message)).cancel


async def _answer(handler: Any, call: Call, message: bytes | None) -> None:
    """Answer a call by a handler's coroutine or asynchronous generator."""
    read = handler.request_deserializer
    try:
        request = _requests(call, read) if handler.request_streaming else read(message)
        behaviour = handler.stream_stream or handler.unary_stream or handler.unary_unary
        answers = behaviour(request, call)
        if inspect.isasyncgen(answers):
            async with contextlib.aclosing(answers):
                async for answer in answers:
                    await call.write(answer)
            call.end()
        else:
            answer = await answers
            call.end(None if handler.response_streaming else call.serialize(answer))
    except Aborted:
        pass
    except DecodeError as error:
        call.fail(grpc.StatusCode.INVALID_ARGUMENT, unreadable(error))
    except Exception:
        log.exception("a call failed")
        call.fail(grpc.StatusCode.INTERNAL, BUG)


async def _requests(call: Call, read: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    while (message := await call.read()) is not None:
        yield read(message)
