"""Requests that the loop reads late: how long they lay is known, and counts against their deadline."""

import asyncio
import gc
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from engine.config import Serve, Slo
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.unread import unread_s
from engine.scorer import Scorer
from tests.engine.realtime.running import Engine, start

SLO_S = 0.1
CLOCK_S = 0.01
"""A step of the kernel's clock is shorter, however it was built."""
BODY = json.dumps({"rows": [{"f0": 1, "f1": 2, "f2": 3, "f3": 4}]})
PATH = "/v1/models/numeric/score"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="nobody else knows")


@pytest.fixture
def prompt(scorers: Mapping[str, Scorer]) -> Iterator[Engine]:
    settings = Serve(port=0, slo=Slo(1e3 * SLO_S))
    yield from start(lambda: ScoringApp(scorers, settings), settings)


def connect(engine: Engine) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", engine.port, timeout=10)


def pass_time(seconds: float) -> None:
    threading.Event().wait(seconds)


@linux_only
def test_a_socket_knows_since_when_it_has_something_to_read() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        served = stack.enter_context(listener.accept()[0])
        sent_s = time.monotonic()
        client.sendall(b"x")
        assert served.recv(1) == b"x"
        pass_time(5 * CLOCK_S)
        assert 4 * CLOCK_S <= unread_s(served) <= time.monotonic() - sent_s + CLOCK_S
        sent_s = time.monotonic()
        client.sendall(b"x")
        assert served.recv(1) == b"x"
        assert unread_s(served) <= time.monotonic() - sent_s + CLOCK_S


def test_where_nobody_knows_nothing_lay_unread() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert unread_s(one) == 0.0
    assert unread_s(one) == 0.0


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    json: Any


def read(connection: http.client.HTTPConnection) -> Reply:
    answer = connection.getresponse()
    return Reply(
        answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.load(answer)
    )


@contextmanager
def the_loop_held(engine: Engine) -> Iterator[None]:
    """Meanwhile the loop reads nothing."""
    held, release = threading.Event(), threading.Event()

    async def hold() -> None:
        held.set()
        release.wait(10)

    holding = asyncio.run_coroutine_threadsafe(hold(), engine.loop)
    held.wait(10)
    yield
    release.set()
    holding.result(10)


def reply_after(engine: Engine, seconds: float, headers: Mapping[str, str], n_before: int = 0) -> Reply:
    """What a request is answered that the loop reads only after some time, and after others at once."""
    with closing(connect(engine)) as connection:
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()
        for _ in range(n_before):
            connection.request("POST", PATH, BODY)
            assert read(connection).status == 200
        with the_loop_held(engine):
            connection.request("POST", PATH, BODY, dict(headers))
            pass_time(seconds)
        return read(connection)


@linux_only
@pytest.mark.parametrize("n_before", [0, 5])
def test_a_request_read_after_its_deadline_is_refused_and_not_answered_late(
    prompt: Engine, n_before: int
) -> None:
    reply = reply_after(prompt, 1.5 * SLO_S, {}, n_before)
    assert reply.status == 429
    assert "total;dur=" in reply.headers["server-timing"]
    assert reply.headers["tandem-revision"]
    assert "not in time" in reply.json["error"]
    assert reply.headers["retry-after"] == "1"
    assert reply.headers["tandem-revision"] == reply_after(prompt, 0.0, {}).headers["tandem-revision"]


def test_a_request_with_more_time_is_answered_however_late_it_is_read(prompt: Engine) -> None:
    reply = reply_after(prompt, 1.5 * SLO_S, {"Tandem-Timeout-S": "60"})
    assert (reply.status, reply.json["scores"]) == (200, [30.0])


@linux_only
def test_who_comes_in_time_after_that_is_answered(prompt: Engine) -> None:
    assert reply_after(prompt, 1.5 * SLO_S, {}).status == 429
    assert reply_after(prompt, 0.0, {}).status == 200


@linux_only
def test_a_new_connection_is_asked_even_if_the_batcher_ran_since_it_came(prompt: Engine) -> None:
    # The loop accepts one connection a turn, so the batcher runs while others lie unread.
    patient, hasty = {"Tandem-Timeout-S": "60"}, dict[str, str]()
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(connect(prompt))) for _ in range(12)]
        with the_loop_held(prompt):
            for place, connection in enumerate(connections):
                connection.request("POST", PATH, BODY, hasty if place % 2 else patient)
            pass_time(1.5 * SLO_S)
        assert [read(connection).status for connection in connections] == 6 * [200, 429]


@pytest.mark.parametrize("busy", [False, True])
def test_neither_an_answer_nor_a_refusal_leaves_work_for_the_garbage_collector(
    prompt: Engine, busy: bool
) -> None:
    statuses = set[int]()
    with closing(connect(prompt)) as connection:

        def ask(times: int) -> None:
            for _ in range(times):
                connection.request("POST", PATH, BODY)
                statuses.add(read(connection).status)

        if busy:
            prompt.app.model("numeric").batcher._busy_until_s = time.perf_counter() + 1000
        ask(10)
        gc.collect()
        gc.disable()
        try:
            ask(200)
            assert gc.collect() < 200
        finally:
            gc.enable()
    assert statuses == {429 if busy else 200}
