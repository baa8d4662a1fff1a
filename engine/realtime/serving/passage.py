"""One scoring request from head and body to its answer: in through a door, the batcher, and out again.

No coroutine: the batcher calls back when there is a result. So a connection of our own server answers
without a task per request, and ASGI awaits the same thing. What takes long of a large body is done in
a thread, so that the loop serves the others meanwhile.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import msgspec

from engine.errors import Failed, TandemError
from engine.realtime.batching.waiting import Result, Waiting
from engine.realtime.doors.answers import Answer, error_answer
from engine.realtime.doors.body import deflate, inflate
from engine.realtime.doors.calls import Asked, Call, timeout_of
from engine.realtime.doors.door import JSON, Door, door_for
from engine.realtime.serving.served import ServedModel, needs_no_model, server_timing, settled

log = logging.getLogger(__name__)
T = TypeVar("T")

MIN_COMPRESSED_BYTES = 1024
"""A smaller answer is not worth compressing."""


class Passage(ABC):
    """Calls ``deliver`` once with the answer, whatever happens, unless it is cancelled before.

    A subclass reads a request of its protocol, calls ``_ask`` with what it asks, and says how answers are
    written.

    Args:
        name: Of the door, as it is counted.
        model: Scores.
        arrived_s: When the request came, by ``time.perf_counter``.
        deliver: Takes the answer, on the event loop, perhaps before the request was read to its end.
    """

    __slots__ = (
        "_arrived_s", "_asked", "_decoded_s", "_deliver", "_ended", "_is_large", "_model", "_name",
        "_revision", "_ticket", "_work",
    )  # fmt: skip

    def __init__(
        self, name: str, model: ServedModel, arrived_s: float, deliver: Callable[[Answer], None]
    ) -> None:
        self._name = name
        self._model = model
        self._revision = model.revision
        self._arrived_s = arrived_s
        self._deliver = deliver
        self._ticket: Waiting | None = None
        self._work: Callable[[], Any] | None = None
        self._ended = False
        self._is_large = False
        model.counters.request_begun()

    @abstractmethod
    def _write(self, result: Result) -> Answer:
        """The answer with the scores."""

    @abstractmethod
    def _say_times(self, answer: Answer, queue_s: float, score_s: float, total_s: float) -> None:
        """Add to an answer where its time went."""

    @abstractmethod
    def _explain(self, error: TandemError) -> Answer:
        """The answer that is an error."""

    def done(self) -> bool:
        """Whether there is an answer, or nobody wants one."""
        return self._ended

    def set_result(self, result: Result) -> None:
        """Deliver the scores."""
        scored_s = time.perf_counter()
        self._ticket = None
        try:
            result = settled(self._asked, result)
            if self._is_large:
                self._do_aside(partial(self._write, result), partial(self._answer, result, scored_s))
            else:
                self._answer(result, scored_s, self._write(result))
        except Exception as error:  # noqa: BLE001 translated, and logged if it is a bug
            self.set_exception(error)

    def set_exception(self, error: Exception) -> None:
        """Deliver an error in place of scores."""
        self._ticket = None
        if not isinstance(error, TandemError):
            log.error("a request to model '%s' failed", self._model.name, exc_info=error)
            error = Failed("a bug in the engine; its log has the details")
        self._end_unscored(self._explain(error))

    def _end_unscored(self, answer: Answer) -> None:
        """Deliver an answer without scores."""
        self._say_times(answer, 0.0, 0.0, time.perf_counter() - self._arrived_s)
        self._end(answer)

    def cancel(self) -> None:
        """Nobody is there to answer to; whatever still waits is not scored."""
        if self._ended:
            return
        self._ended, self._deliver = True, _delivered
        self._work = None  # it holds the request, and may have to wait for its thread
        self._model.counters.request_left()
        if self._ticket is not None:
            self._model.batcher.cancel(self._ticket)
            self._ticket = None  # it leads here: a circle that keeps the whole request alive

    def _do_aside(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Let a thread do some work, and go on on the event loop with what it gives."""
        loop = asyncio.get_running_loop()

        def done(future: "Future[Any]") -> None:
            loop.call_soon_threadsafe(self._go_on, future, then)

        self._work = work
        self._model.aside.submit(self._do_work).add_done_callback(done)

    def _do_work(self) -> Any:
        work, self._work = self._work, None
        return None if work is None else work()

    def _go_on(self, done: "Future[Any]", then: Callable[[T], None]) -> None:
        if self._ended:
            return
        try:
            then(done.result())
        except Exception as error:  # noqa: BLE001 translated, and logged if it is a bug
            self.set_exception(error)
        finally:
            # Its error leads to this frame, and that to it: a circle that keeps the whole request alive.
            del done

    def _ask(self, asked: Asked) -> None:
        self._asked = asked
        self._decoded_s = time.perf_counter()
        if len(asked.bad) == len(asked.X):
            self.set_result(needs_no_model(self._revision, asked))
        else:
            self._ticket = self._model.batcher.submit(
                self._revision.scorer, asked.X, self._arrived_s, asked.budget_s, self
            )

    def _answer(self, result: Result, scored_s: float, answer: Answer) -> None:
        arrived_s, answered_s = self._arrived_s, time.perf_counter()
        total_s, decode_s = answered_s - arrived_s, self._decoded_s - arrived_s
        self._say_times(answer, result.queue_s, result.score_s, total_s)
        self._hand_over(answer)  # and count then: nobody waits for that
        self._model.counters.request_scored(
            self._name, len(result.scores), len(result.bad), total_s > self._asked.budget_s,
            total_s, decode_s, result.queue_s, result.score_s, answered_s - scored_s,
        )  # fmt: skip

    def _end(self, answer: Answer) -> None:
        """The end of a request without scores."""
        took_s = time.perf_counter() - self._arrived_s
        self._hand_over(answer)
        self._model.counters.request_ended(self._name, answer.status, took_s)

    def _hand_over(self, answer: Answer) -> None:
        self._ended = True
        # It leads to the connection, and that here: a circle for the garbage collector, with each request.
        deliver, self._deliver = self._deliver, _delivered
        deliver(answer)


class HttpPassage(Passage):
    """The passage of a request over HTTP; see ``Passage``.

    Args:
        model: Scores.
        arrived_s: When the request came, by ``time.perf_counter``.
        deliver: Takes the answer, on the event loop, perhaps before ``begin`` returns.
        unread_s: How long it had lain in its socket when the loop read it.
    """

    __slots__ = ("_accept", "_door", "_unread_s")

    def __init__(
        self,
        model: ServedModel,
        arrived_s: float,
        deliver: Callable[[Answer], None],
        *,
        unread_s: float = 0.0,
    ) -> None:
        super().__init__(JSON.name, model, arrived_s, deliver)
        self._unread_s = unread_s
        self._door: Door = JSON
        self._accept: bytes | None = None

    def begin(
        self, verb: str, headers: Mapping[bytes, bytes], body: bytes, max_body_bytes: int, max_rows: int
    ) -> None:
        """Read the request and put its rows into the batcher.

        Args:
            verb: ``infer`` or ``score``.
            headers: Names in lower case.
            body: As it came.
            max_body_bytes: Once inflated.
            max_rows: More are refused.
        """
        try:
            door = self._door = door_for(verb, headers)
            self._name = door.name
            self._accept = headers.get(b"accept-encoding")
            timeout_s = timeout_of(headers.get(b"tandem-timeout-s")) or self._model.slo_s
            deadline_s = self._arrived_s + timeout_s
            call = Call(body, headers.get(b"inference-header-content-length"), timeout_s, max_rows)
            # Compressed, it is as large as what becomes of it, and may say how long it has.
            if encoding := headers.get(b"content-encoding"):
                self._is_large = True
                self._do_aside(partial(self._inflated, call, encoding, max_body_bytes), self._ask)
            elif self._is_too_late(call, deadline_s):
                self._end_unscored(self._model.refusal())
            elif door.is_large(call, len(self._revision.datatypes)):
                self._is_large = True
                self._do_aside(partial(door.read, self._revision, call), self._ask)
            else:
                self._ask(door.read(self._revision, call))
        except Exception as error:  # noqa: BLE001 translated, and logged if it is a bug
            self.set_exception(error)

    def _is_too_late(self, call: Call, deadline_s: float) -> bool:
        """Whether a request is refused unread, which its body must not know better."""
        batcher = self._model.batcher
        return (
            batcher.may_refuse(self._unread_s)
            and not self._door.may_name_deadline(call)
            and batcher.refuses(deadline_s, self._unread_s)
        )

    def _inflated(self, call: Call, encoding: bytes, max_body_bytes: int) -> Asked:
        body = inflate(call.body, encoding, max_body_bytes)
        return self._door.read(self._revision, msgspec.structs.replace(call, body=body))

    def _write(self, result: Result) -> Answer:
        answer = self._door.write(self._revision, self._asked, result)
        if self._accept is not None and len(answer.body) > MIN_COMPRESSED_BYTES:
            _compress(answer, self._accept)
        return answer

    def _say_times(self, answer: Answer, queue_s: float, score_s: float, total_s: float) -> None:
        answer.headers += (self._revision.header, server_timing(queue_s, score_s, total_s))

    def _explain(self, error: TandemError) -> Answer:
        return error_answer(error)


def _delivered(_: Answer) -> None:
    """Stands where a passage had its way out."""


def _compress(answer: Answer, accepted: bytes) -> None:
    compressed = deflate(answer.body, accepted)
    if compressed is not None:
        answer.body, encoding = compressed
        answer.headers += ((b"content-encoding", encoding), (b"vary", b"accept-encoding"))
