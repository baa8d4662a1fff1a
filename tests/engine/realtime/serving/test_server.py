import asyncio
import errno
import http.client
import json
import math
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from engine.config import Serve, Slo
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.connection import LINGER_S, MAX_HEAD_BYTES
from engine.realtime.serving.room import BODIES_AT_ONCE
from engine.scorer import Scorer
from tests.engine.realtime.running import Engine, start
from tests.waiting import wait_until

BODY = json.dumps({"rows": [{"f0": 1, "f1": 2, "f2": 3, "f3": 4}]})


@pytest.fixture
def fresh(scorers: Mapping[str, Scorer]) -> Iterator[Engine]:
    settings = Serve(port=0, drain_s=5.0, slo=Slo(10_000))
    yield from start(lambda: ScoringApp(scorers, settings), settings)


def test_an_idle_connection_gets_a_last_answer_and_is_told_to_close(fresh: Engine) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", fresh.port, timeout=10)
    connection.request("GET", "/v2/health/live")
    connection.getresponse().read()
    draining = asyncio.run_coroutine_threadsafe(fresh.server.drain(), fresh.loop)
    wait_until(lambda: fresh.app.draining)
    connection.request("POST", "/v1/models/numeric/score", BODY)
    answer = connection.getresponse()
    assert answer.getheader("connection") == "close"
    assert json.loads(answer.read())["scores"] == [30.0]
    draining.result(10)


def test_what_waits_in_the_listeners_queue_is_answered(fresh: Engine) -> None:
    # The loop is held while connections are made, so none of them is accepted before the drain.
    held, release = threading.Event(), threading.Event()

    async def hold_and_drain() -> None:
        held.set()
        release.wait(10)
        await fresh.server.drain()

    draining = asyncio.run_coroutine_threadsafe(hold_and_drain(), fresh.loop)
    held.wait(10)
    head = f"POST /v1/models/numeric/score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", fresh.port), timeout=10))
            for _ in range(20)
        ]
        for client in clients:
            client.sendall((head + BODY).encode())
        release.set()
        answers = [client.makefile("rb").read() for client in clients]
    draining.result(10)
    assert all(answer.startswith(b"HTTP/1.1 200") and b"30.0" in answer for answer in answers)


class Troubled:
    """A listener that meets errors as it accepts."""

    def __init__(self, listener: socket.socket, *errors: int) -> None:
        self._listener = listener
        self._errors = list(errors)

    def accept(self) -> tuple[socket.socket, object]:
        if self._errors:
            number = self._errors.pop(0)
            raise OSError(number, os.strerror(number))
        return self._listener.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


@pytest.mark.parametrize(
    ("errors", "said"), [((errno.ECONNABORTED,) * 2, []), ((errno.EMFILE,), ["Too many open files"])]
)
def test_a_drain_goes_on_whatever_comes_of_accepting(
    fresh: Engine, errors: tuple[int, ...], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    troubled = fresh.server._listener = Troubled(fresh.server._listener, *errors)  # type: ignore[assignment]
    fresh.run(fresh.server.drain())
    assert (troubled._errors, troubled.fileno()) == ([], -1)
    assert [words in record.getMessage() for words, record in zip(said, caplog.records, strict=True)] == [
        True
    ] * len(said)


def test_nobody_is_accepted_after_draining(fresh: Engine) -> None:
    fresh.run(fresh.server.drain())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", fresh.port))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /" + b"a" * 2 * MAX_HEAD_BYTES, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 2 * MAX_HEAD_BYTES, 431),
        (b"GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ],
)
def test_what_is_no_http_gets_an_error_and_the_connection_ends(
    engine: Engine, sent: bytes, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as client:
        client.sendall(sent)
        head, body = client.makefile("rb").read().split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert list(json.loads(body)) == ["error"]


@pytest.mark.parametrize(
    ("sent", "part"),
    [
        (b"POST /v1/models/numeric/score HTTP/1.1\r\n", "head"),
        (b"POST /v1/models/numeric/score HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", "body"),
    ],
)
def test_a_request_that_does_not_come_is_told_so_and_its_connection_ends(
    fresh: Engine, sent: bytes, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.realtime.serving.connection.READ_TIMEOUT_S", 0.5)
    with socket.create_connection(("127.0.0.1", fresh.port), timeout=10) as client:
        client.sendall(sent)
        sweep_until_told(fresh, client)
        head, body = client.makefile("rb").read().split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408")
        assert part in json.loads(body)["error"]
        assert fresh.server.connections
        sweep(fresh, fresh.loop.time() + LINGER_S)
        wait_until(lambda: not fresh.server.connections)


HOSTILE = [
    b"nonsense\r\n\r\n",
    b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"POST /v1/models/none/score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
]


@pytest.mark.parametrize("sent", HOSTILE)
def test_what_clients_send_writes_nothing_to_the_log(
    fresh: Engine, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", fresh.port), timeout=10) as client:
        client.sendall(sent)
        assert client.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 400")
    wait_until(lambda: fresh.app.in_flight == 0)
    wait_until(lambda: not fresh.server.connections)
    assert [record.getMessage() for record in caplog.records] == []


ENDLESS = [
    b"POST /v1/models/numeric/score HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /v1/models/none/score HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /v1/models/none/score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    b"nonsense\r\n\r\n",
]


def closing_answer(client: socket.socket) -> int:
    """The status of an answer after which the connection ends; the client may send still."""
    stream = client.makefile("rb")
    head, _ = stream.read().split(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split()[1])


@pytest.mark.parametrize("sent", ENDLESS)
def test_a_body_that_is_answered_before_its_end_is_read_for_a_while_only(fresh: Engine, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", fresh.port), timeout=10) as client:
        client.sendall(sent)
        assert closing_answer(client) in (400, 404, 413)
        client.sendall(b" " * 100_000)
        sweep(fresh, fresh.loop.time() + 0.9 * LINGER_S)
        assert fresh.server.connections
        sweep(fresh, fresh.loop.time() + 1.1 * LINGER_S)
        wait_until(lambda: not fresh.server.connections)


@pytest.mark.parametrize("sent", ENDLESS)
def test_of_a_body_that_is_answered_before_its_end_so_much_is_read_only(
    fresh: Engine, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.realtime.serving.connection.LINGER_BYTES", 1 << 20)
    with socket.create_connection(("127.0.0.1", fresh.port), timeout=10) as client:
        client.sendall(sent)
        assert closing_answer(client) in (400, 404, 413)
        with pytest.raises(ConnectionError):
            client.sendall(bytes(1 << 30))
    wait_until(lambda: not fresh.server.connections)


def test_who_sends_a_whole_body_first_reads_why_it_was_refused(scorers: Mapping[str, Scorer]) -> None:
    settings = Serve(port=0, slo=Slo(10_000), max_body_bytes=100_000)
    for engine in start(lambda: ScoringApp(scorers, settings), settings):
        reply = engine.ask("POST", "/v1/models/numeric/score", bytes(20 << 20))
        assert (reply.status, reply.headers["connection"]) == (413, "close")


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_a_number_beyond_its_features_type_is_infinite_and_warns_nobody(
    scorers: Mapping[str, Scorer], datatype: str
) -> None:
    settings = Serve(port=0, slo=Slo(10_000))
    for engine in start(lambda: ScoringApp(scorers, settings), settings):
        tensor = {"name": "x", "datatype": datatype, "shape": [1, 4], "data": [1e300, 1, 1, 1]}
        parameters = {"binary_data_output": True}
        body = {"inputs": [tensor], "parameters": parameters}
        reply = engine.ask("POST", "/v2/models/numeric/infer", body)
        assert (reply.status, reply.body[-8:]) == (200, struct.pack("<d", math.inf))


def test_a_body_that_came_whole_keeps_its_connection(fresh: Engine) -> None:
    wrong = post(json.dumps({"rows": [], "x": "y" * 200_000}))
    assert [status for status, _ in exchange(fresh, wrong + post(BODY), 2)] == [400, 200]


def sweep_until_told(engine: Engine, client: socket.socket) -> None:
    def is_told() -> bool:
        sweep(engine, engine.loop.time())
        return bool(select.select([client], [], [], 0)[0])

    wait_until(is_told)


def sweep(engine: Engine, now_s: float) -> None:
    async def on_the_loop() -> None:
        engine.server.sweep(now_s)

    engine.run(on_the_loop())


def test_an_old_connection_ends_with_its_next_answer(fresh: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.realtime.serving.connection.Connection.max_age_s", -1.0)
    assert fresh.ask("GET", "/v2/health/live").headers["connection"] == "close"


def exchange(engine: Engine, sent: bytes, n_answers: int) -> list[tuple[int, bytes]]:
    """Statuses and bodies of the answers to raw bytes on one connection."""
    answers = []
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as client:
        client.sendall(sent)
        stream = client.makefile("rb")
        for _ in range(n_answers):
            status = int(stream.readline().split()[1])
            length = 0
            while (line := stream.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            answers.append((status, stream.read(length)))
    return answers


def post(body: str, *headers: str, path: str = "/v1/models/numeric/score", version: str = "1.1") -> bytes:
    head = "\r\n".join([f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers])
    return f"{head}\r\n\r\n{body}".encode()


def test_pipelined_requests_are_answered_in_order(engine: Engine) -> None:
    def scored(value: int) -> bytes:
        return post(json.dumps({"rows": [{"f0": value, "f1": 0, "f2": 0, "f3": 0}]}))

    other = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    wrong = post("{", path="/v2/models/numeric/infer")
    long = post(json.dumps({"rows": [], "x": "y" * 70_000}))
    sent = scored(1) + other + scored(2) + wrong + scored(3) + long + other + scored(4)
    answers = exchange(engine, sent, 8)
    assert [status for status, _ in answers] == [200, 200, 200, 400, 200, 400, 200, 200]
    scores = [json.loads(answers[place][1])["scores"] for place in (0, 2, 4, 7)]
    assert scores == [[1.0], [2.0], [3.0], [4.0]]


def test_a_request_may_come_byte_by_byte(engine: Engine) -> None:
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(BODY, "Connection: close"):
            client.sendall(bytes([byte]))
        assert client.makefile("rb").read().endswith(b'"scores":[30.0]}')


@pytest.mark.parametrize(
    "sent",
    [
        post(BODY, version="1.0"),
        post(BODY, "Connection: close"),
        post(BODY, "Connection: close", "Expect: 100-continue"),
    ],
)
def test_who_wants_the_connection_closed_is_answered_first(engine: Engine, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as client:
        client.sendall(sent)
        answer = client.makefile("rb").read()
    assert answer.endswith(b'"scores":[30.0]}')


def test_a_body_over_a_small_limit_is_refused_on_the_short_way_too(scorers: Mapping[str, Scorer]) -> None:
    settings = Serve(port=0, slo=Slo(10_000), max_body_bytes=1024)
    for engine in start(lambda: ScoringApp(scorers, settings), settings):
        reply = engine.ask("POST", "/v1/models/numeric/score", b" " * 1025)
        assert (reply.status, list(reply.json)) == (413, ["error"])


def wait_until_held(engine: Engine, n_bytes: int) -> None:
    wait_until(lambda: engine.app.room.held_bytes == n_bytes)


def wait_until_in_flight(engine: Engine, n_requests: int) -> None:
    wait_until(lambda: engine.app.in_flight == n_requests)


LONG = b"POST /v1/models/numeric/score HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"


def test_bodies_that_are_there_at_the_same_time_have_a_bound(scorers: Mapping[str, Scorer]) -> None:
    settings = Serve(port=0, slo=Slo(10_000), max_body_bytes=200_000, drain_s=1.0)
    for engine in start(lambda: ScoringApp(scorers, settings), settings):
        with ExitStack() as stack:
            address = ("127.0.0.1", engine.port)
            for _ in range(BODIES_AT_ONCE):
                client = stack.enter_context(socket.create_connection(address, timeout=10))
                client.sendall(LONG + b" " * 199_999)
            wait_until_held(engine, BODIES_AT_ONCE * 199_999)
            assert exchange(engine, LONG + b" " * 190_000, 1)[0][0] == 429
            assert engine.ask("POST", "/v1/models/numeric/score", BODY.encode()).status == 200
            assert engine.ask("POST", "/v2/repository/index", b"{}").status == 200
        wait_until_held(engine, 0)


def test_clients_that_announce_much_and_send_nothing_keep_nobody_out(scorers: Mapping[str, Scorer]) -> None:
    settings = Serve(port=0, slo=Slo(10_000), max_body_bytes=200_000, drain_s=1.0)
    for engine in start(lambda: ScoringApp(scorers, settings), settings):
        with ExitStack() as stack:
            address = ("127.0.0.1", engine.port)
            for _ in range(2 * BODIES_AT_ONCE):
                stack.enter_context(socket.create_connection(address, timeout=10)).sendall(LONG)
            wait_until_in_flight(engine, 2 * BODIES_AT_ONCE)
            assert exchange(engine, post(BODY + " " * 100_000, "Connection: close"), 1)[0][0] == 200
            assert engine.ask("POST", "/v2/repository/index", b"{}").status == 200


@pytest.mark.parametrize("header", ["", "Connection: keep-alive\r\n", "Proxy-Connection: keep-alive\r\n"])
def test_a_connection_of_http_1_0_ends_with_its_answer_whatever_it_asks(engine: Engine, header: str) -> None:
    head = f"POST /v1/models/numeric/score HTTP/1.0\r\n{header}Content-Length: {len(BODY)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as client:
        client.sendall((head + BODY).encode())
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    assert b"30.0" in answer
