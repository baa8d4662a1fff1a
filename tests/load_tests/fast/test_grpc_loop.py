"""The hand-written HTTP/2 of the gRPC loop against the real gRPC server, and against single frames."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from load_tests.fast.grpc_loop import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    GrpcConnection,
    frame,
    header_block,
    run_closed_grpc,
)

PATH = "/test.Echo/Say"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    def say(message: bytes, context: grpc.ServicerContext) -> bytes:
        if message == b"bad":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
        return message

    handler = grpc.method_handlers_generic_handler(
        "test.Echo", {"Say": grpc.unary_unary_rpc_method_handler(say)}
    )
    server = grpc.server(ThreadPoolExecutor(2), handlers=(handler,))
    found = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield found
    server.stop(None).wait()


def test_every_call_to_a_real_server_is_answered(port: int) -> None:
    samples = run_closed_grpc(("127.0.0.1", port), PATH, [b"x" * 500, b"y"], duration_s=0.2, connections=3)
    assert len(samples.status) > 3
    assert set(samples.status) == {200}


def test_a_status_other_than_ok_is_a_failure(port: int) -> None:
    samples = run_closed_grpc(("127.0.0.1", port), PATH, [b"bad"], duration_s=0.05, connections=1)
    assert set(samples.status) == {500}


def test_more_bytes_than_a_window_pass(port: int) -> None:
    samples = run_closed_grpc(("127.0.0.1", port), PATH, [b"x" * 10_000], duration_s=0.3, connections=1)
    assert len(samples.status) > 7
    assert set(samples.status) == {200}


def test_an_answer_may_come_byte_by_byte() -> None:
    connection = GrpcConnection(header_block(PATH, "here"))
    connection.call(b"hello")
    answer = frame(HEADERS, END_HEADERS, 1, b"h") + frame(DATA, 0, 1, b"m") + frame(HEADERS, END_STREAM, 1)
    outcomes = [connection.receive(answer[at : at + 1]) for at in range(len(answer))]
    assert outcomes[:-1] == [None] * (len(answer) - 1)
    assert outcomes[-1] is True


def test_a_ping_is_answered() -> None:
    connection = GrpcConnection(b"")
    connection.unsent = b""
    connection.receive(frame(PING, 0, 0, b"12345678"))
    assert connection.unsent == frame(PING, ACK, 0, b"12345678")


def test_a_server_may_end_the_connection() -> None:
    with pytest.raises(ConnectionError, match="ends the connection"):
        GrpcConnection(b"").receive(frame(GOAWAY, 0, 0, bytes(8)))
