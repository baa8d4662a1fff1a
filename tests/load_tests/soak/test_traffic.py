import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from load_tests.fast.grpc_loop import SETTINGS, frame
from load_tests.fast.http_answer import Answer
from load_tests.payloads.grpc_request import METHOD
from load_tests.soak.account import account_of
from load_tests.soak.inputs import Payload
from load_tests.soak.lanes import GrpcLane
from load_tests.soak.traffic import Traffic

REQUEST = b"POST /score HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\n\r\n"
Serving = Callable[[Callable[[str, bytes], tuple[int, bytes]]], Any]


def sent(port: int, *bodies: bytes) -> Traffic:
    payloads = [Payload(kind, "rows", (0, 1), REQUEST + body) for kind, body in enumerate(bodies)]
    traffic = Traffic("127.0.0.1", {"http": port, "grpc": port}, payloads, rate=200.0, n_users=4)
    asyncio.run(traffic.run(time.monotonic(), 0.5))
    return traffic


def test_every_request_ends_in_the_log(serving: Serving) -> None:
    answers = {b"a": (200, b"1"), b"b": (429, b"busy"), b"c": (500, b"a bug")}
    traffic = sent(serving(lambda path, body: answers[body]).server_port, *answers)
    account = account_of(traffic.log, [])
    assert account.sent > 10
    assert account.sent == account.answered + account.refused + account.lost
    assert min(account.answered, account.refused, account.lost) > 0
    assert traffic.log.losses[0][2] == "500 a bug"


def test_different_answers_to_one_request_are_told_apart(serving: Serving) -> None:
    turns = iter(range(100_000))
    traffic = sent(serving(lambda path, body: (200, b"%d" % (next(turns) % 3))).server_port, b"a")
    assert sorted(traffic.answers[0].values()) == [b"0", b"1", b"2"]


def test_nobody_listening_is_a_loss_not_an_error() -> None:
    async def closed_port() -> int:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        async with server:
            return int(server.sockets[0].getsockname()[1])

    account = account_of(sent(asyncio.run(closed_port()), b"a").log, [])
    assert account.lost == account.sent > 10


async def asked(port: int) -> Answer:
    lane = GrpcLane("127.0.0.1", port)
    try:
        return await lane.ask(b"rows")
    finally:
        await lane.close()


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (grpc.StatusCode.OK, Answer(200, b"scores", closes=False)),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Answer(429, b"why", closes=False)),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Answer(504, b"why", closes=False)),
        (grpc.StatusCode.CANCELLED, Answer(500, b"why", closes=False)),
    ],
)
def test_a_call_is_answered_with_the_status_of_http(code: grpc.StatusCode, answer: Answer) -> None:
    async def infer(message: bytes, context: Any) -> bytes:
        if code is not grpc.StatusCode.OK:
            await context.abort(code, "why")
        assert message == b"rows"
        return b"scores"

    async def scenario() -> Answer:
        server = grpc.aio.server()
        service, _, method = METHOD[1:].partition("/")
        handlers = {method: grpc.unary_unary_rpc_method_handler(infer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            return await asked(port)
        finally:
            await server.stop(None)

    assert asyncio.run(scenario()) == answer


def test_a_connection_that_breaks_under_a_call_is_no_refusal() -> None:
    async def break_when_asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(SETTINGS, 0, 0))
        await reader.readuntil(b"rows")
        writer.transport.abort()

    async def scenario() -> None:
        async with await asyncio.start_server(break_when_asked, "127.0.0.1", 0) as server:
            with pytest.raises(ConnectionError):
                await asked(server.sockets[0].getsockname()[1])

    asyncio.run(scenario())
