"""A ``ModelInferRequest`` on its way to its answer; what gRPC's calls share with HTTP's is ``Passage``'s."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from engine.errors import DeadlineExceeded, TandemError
from engine.realtime.batching.waiting import Result
from engine.realtime.doors.answers import Answer, sentence
from engine.realtime.doors.statuses import http_status
from engine.realtime.grpc.door import is_large, read, write
from engine.realtime.serving.passage import Passage
from engine.realtime.serving.served import TOO_LATE, ServedModel, server_timing

_REFUSED_STATUS = 429


class GrpcPassage(Passage):
    """The passage of a message over gRPC.

    Its answer has a serialised ``ModelInferResponse`` or an error's sentence for its body, HTTP's status, and
    what is sent behind it for headers.

    Args:
        model: Scores.
        arrived_s: When the call came, by ``time.perf_counter``.
        deliver: Takes the answer, on the event loop, perhaps before ``begin`` returns.
    """

    __slots__ = ()

    def __init__(self, model: ServedModel, arrived_s: float, deliver: Callable[[Answer], None]) -> None:
        super().__init__("grpc", model, arrived_s, deliver)

    def begin(self, request: Any, n_bytes: int, timeout_s: float | None, max_rows: int) -> None:
        """Read the request and put its rows into the batcher.

        Args:
            request: A ``ModelInferRequest``.
            n_bytes: Its length when it came.
            timeout_s: The caller's deadline if it has one.
            max_rows: More are refused.
        """
        try:
            budget_s = self._model.slo_s if timeout_s is None else timeout_s
            if budget_s <= 0:
                self._model.counters.request_shed("expired")
                raise DeadlineExceeded("the deadline had passed before the request was read")
            if not request.parameters and self._is_refused(budget_s):
                self._end_unscored(Answer(_REFUSED_STATUS, [], TOO_LATE.encode()))
                return
            reading = partial(read, self._revision, request, budget_s, max_rows)
            if is_large(request, n_bytes):
                self._is_large = True
                self._do_aside(reading, self._ask)
            else:
                self._ask(reading())
        except Exception as error:  # noqa: BLE001 translated, and logged if it is a bug
            self.set_exception(error)

    def _is_refused(self, budget_s: float) -> bool:
        waited_s = time.perf_counter() - self._arrived_s
        return self._model.batcher.refuses(self._arrived_s + budget_s, waited_s)

    def _write(self, result: Result) -> Answer:
        return Answer(200, [], write(self._revision, self._asked, result).SerializeToString())

    def _say_times(self, answer: Answer, queue_s: float, score_s: float, total_s: float) -> None:
        answer.headers += (self._revision.header, server_timing(queue_s, score_s, total_s))

    def _explain(self, error: TandemError) -> Answer:
        return Answer(http_status(error), [], sentence(error).encode())
