"""gRPC calls that do not end as most do: too long, unreadable, empty, left, late, refused, drained."""

import asyncio
import gc
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

import grpc
import msgspec
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2

from engine.config import Serve, Slo
from engine.errors import InvalidRequest, PortTaken
from engine.realtime.doors.answers import Answer
from engine.realtime.grpc.messages import METHODS, SERVICE, STREAM
from engine.realtime.grpc.passage import GrpcPassage
from engine.realtime.grpc.server import CALLS_AT_ONCE, GrpcServer
from engine.realtime.grpc.transport import BUG, STOPPING, Call, CoreServer
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.room import BODIES_AT_ONCE
from engine.realtime.serving.served import TOO_LATE
from engine.scorer import Scorer
from load_tests.fast.grpc_loop import (
    ACK,
    DATA,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    call_frames,
    frame,
    header_block,
)
from tests.engine.realtime.running import Engine, start
from tests.engine.realtime.test_disconnect import Held
from tests.waiting import wait_until

INFER = f"/{SERVICE}/ModelInfer"
MAX_CONCURRENT_STREAMS = 3
GARBAGE = b"\xff" * 20


def message(name: str = "rows") -> bytes:
    request = service_pb2.ModelInferRequest(model_name="numeric")
    request.inputs.add(name=name, datatype="FP32", shape=[1, 4])
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])
    return request.SerializeToString()


def score_in(answer: bytes) -> float:
    return service_pb2.ModelInferResponse.FromString(answer).outputs[0].contents.fp64_contents[0]


def status(caught: "pytest.ExceptionInfo[grpc.RpcError]") -> tuple[str, str]:
    return caught.value.code().name, caught.value.details()  # type: ignore[attr-defined]


@pytest.fixture
def held(scorers: Mapping[str, Scorer]) -> Held:
    return Held(scorers["numeric"])


@pytest.fixture
def settings() -> Serve:
    return Serve(port=0, slo=Slo(10_000), max_body_bytes=100_000, grpc_port=0, drain_s=5.0)


@pytest.fixture
def dear(held: Held, settings: Serve) -> Iterator[Engine]:
    yield from start(lambda: ScoringApp({"numeric": held}, settings), settings)


@pytest.fixture
def channel(dear: Engine) -> Iterator[grpc.Channel]:
    assert dear.server.grpc is not None
    with grpc.insecure_channel(f"127.0.0.1:{dear.server.grpc.port}") as channel:
        yield channel


def large_message(n_rows: int = 5_000) -> bytes:
    request = service_pb2.ModelInferRequest(model_name="numeric")
    request.inputs.add(name="rows", datatype="FP32", shape=[n_rows, 4])
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4] * n_rows)
    return request.SerializeToString()


def hold_first(channel: grpc.Channel, held: Held) -> Any:
    """A call whose scoring has begun and waits at the gate."""
    held.gate.clear()
    first = channel.unary_unary(INFER).future(message(), timeout=20)
    assert held.entered.wait(10)
    return first


def test_a_message_over_the_limit_is_refused_and_the_next_is_answered(channel: grpc.Channel) -> None:
    infer = channel.unary_unary(INFER)
    with pytest.raises(grpc.RpcError) as caught:
        infer(bytes(100_001), timeout=20)
    assert status(caught)[0] == "RESOURCE_EXHAUSTED"
    assert score_in(infer(message(), timeout=20)) == 30.0


def test_messages_that_are_there_at_the_same_time_have_a_bound(dear: Engine, channel: grpc.Channel) -> None:
    infer, large = channel.unary_unary(INFER), large_message()
    aside, go_on = dear.app.model("numeric").aside, threading.Event()
    aside.submit(go_on.wait)
    n_first = BODIES_AT_ONCE * 100_000 // len(large)
    try:
        first = [infer.future(large, timeout=20) for _ in range(n_first)]
        wait_until(lambda: dear.app.room.held_bytes == n_first * len(large))
        with pytest.raises(grpc.RpcError) as caught:
            infer(large, timeout=20)
        assert status(caught)[0] == "RESOURCE_EXHAUSTED"
        assert "are here already" in status(caught)[1]
        (refused,) = channel.stream_stream(f"/{SERVICE}/{STREAM}")(iter([large]), timeout=20)
        refusal = service_pb2.ModelStreamInferResponse.FromString(refused)
        assert "are here already" in refusal.error_message
        assert score_in(infer(message(), timeout=20)) == 30.0
        first.pop().cancel()
        wait_until(lambda: dear.app.room.held_bytes == len(first) * len(large))
    finally:
        go_on.set()
    assert [score_in(one.result()) for one in first] == [30.0] * len(first)
    assert dear.app.room.held_bytes == dear.app.in_flight == 0


def settings_of(port: int) -> dict[int, int]:
    """What a server tells of itself when a connection begins (RFC 9113, 6.5.2)."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(PREFACE + frame(SETTINGS, 0, 0))
        stream = client.makefile("rb")
        head = stream.read(9)
        assert head[3] == SETTINGS
        told = stream.read(int.from_bytes(head[:3], "big"))
    return dict(struct.iter_unpack(">HI", told))


def test_a_connection_has_a_bound_of_calls(dear: Engine) -> None:
    assert dear.server.grpc is not None
    assert settings_of(dear.server.grpc.port)[MAX_CONCURRENT_STREAMS] == CALLS_AT_ONCE


@pytest.mark.parametrize(
    "method", [one for one in METHODS if one not in ("ServerLive", "ServerReady", "ServerMetadata")]
)
def test_bytes_that_are_no_message_are_an_invalid_argument(channel: grpc.Channel, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE}/{method}")(GARBAGE, timeout=20)
    assert status(caught)[0] == "INVALID_ARGUMENT"
    assert "cannot be read" in status(caught)[1]


def test_a_stream_ends_at_what_is_no_message(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream(f"/{SERVICE}/{STREAM}")(iter([message(), GARBAGE]), timeout=20))
    assert status(caught)[0] == "INVALID_ARGUMENT"


def test_a_stream_may_end_before_it_began(channel: grpc.Channel) -> None:
    assert list(channel.stream_stream(f"/{SERVICE}/{STREAM}")(iter([]), timeout=20)) == []


@pytest.mark.parametrize("method", ["ModelInfer", "ServerLive"])
def test_a_call_without_a_message_is_told_so(channel: grpc.Channel, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(f"/{SERVICE}/{method}")(iter([]), timeout=20)
    assert status(caught) == ("UNIMPLEMENTED", "expected a message, got none")


def test_a_bug_while_a_call_begins_ends_it_and_the_next_is_answered() -> None:
    def begin(call: Call, message: Any) -> None:
        if message == b"bug":
            raise ZeroDivisionError
        call.end(message)

    async def scenario() -> None:
        server = CoreServer((), {"/a.Service/Echo": begin})
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            echo = channel.unary_unary("/a.Service/Echo")
            with pytest.raises(grpc.RpcError) as caught:
                await echo(b"bug", timeout=10)
            assert status(caught) == ("INTERNAL", BUG)
            assert await echo(b"again", timeout=10) == b"again"
        await server.stop(1.0)

    asyncio.run(scenario())


class Late(CoreServer):
    """Its thread takes no calls before it may."""

    def __init__(self, *settings: Any) -> None:
        self.may = threading.Event()
        super().__init__(*settings)

    def _wait(self) -> None:
        self.may.wait()
        super()._wait()


def frames(stream: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Kind and flags of each frame that comes."""
    while head := stream.read(9):
        stream.read(int.from_bytes(head[:3], "big"))
        yield head[3], head[4]


def outcomes(server: Late, port: int, n_calls: int) -> list[int]:
    """Kinds of the frames that n calls are answered with, all of which came before any was taken."""
    headers = header_block("/a.Service/Echo", "here")
    calls = b"".join(call_frames(2 * place + 1, headers, b"x") for place in range(n_calls))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(PREFACE + frame(SETTINGS, 0, 0) + calls + frame(PING, 0, 0, bytes(8)))
        kinds, n_ended = [], 0
        for kind, flags in frames(client.makefile("rb")):
            if kind == PING and flags & ACK:
                server.may.set()
            kinds.append(kind)
            n_ended += kind == HEADERS and bool(flags & END_STREAM)
            if n_ended == n_calls:
                break
    return kinds


def test_a_burst_of_calls_is_left_to_the_handlers() -> None:
    async def scenario() -> list[int]:
        server = Late((), {"/a.Service/Echo": Call.end})
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            return await asyncio.to_thread(outcomes, server, port, 3500)
        finally:
            await server.stop(1.0)

    assert asyncio.run(scenario()).count(DATA) == 3500


def errors_that_say(words: str) -> list[object]:
    return [one for one in gc.get_objects() if isinstance(one, InvalidRequest) and str(one).startswith(words)]


def test_a_large_message_that_is_refused_is_forgotten_with_its_error(
    channel: grpc.Channel, uncollected: None
) -> None:
    request = service_pb2.ModelInferRequest.FromString(message())
    request.outputs.add(name="o" * 50_000)
    with pytest.raises(grpc.RpcError, match="no output"):
        channel.unary_unary(INFER)(request.SerializeToString(), timeout=20)
    wait_until(lambda: not errors_that_say("no output 'ooo"), within_s=20)


def test_a_streams_messages_are_forgotten_one_by_one(channel: grpc.Channel, uncollected: None) -> None:
    def n_events() -> int:
        return sum(type(one).__name__ == "BatchOperationEvent" for one in gc.get_objects())

    stream = channel.stream_stream(f"/{SERVICE}/{STREAM}")
    assert len(list(stream(iter([message()] * 50), timeout=20))) == 50
    wait_until(lambda: n_events() < 10, within_s=20)


def test_an_answer_says_where_its_time_went(channel: grpc.Channel) -> None:
    _, call = channel.unary_unary(INFER).with_call(message(), timeout=20)
    said = dict(call.trailing_metadata())
    assert "total;dur=" in said["server-timing"]
    assert said["tandem-revision"]
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(INFER)(message()[:-1], timeout=20)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_who_leaves_is_not_scored_and_hurts_nobody(dear: Engine, channel: grpc.Channel, held: Held) -> None:
    first = hold_first(channel, held)
    gone, stays = (channel.unary_unary(INFER).future(message(), timeout=20) for _ in range(2))
    wait_until(lambda: dear.app.in_flight == 3)
    gone.cancel()
    wait_until(lambda: dear.app.in_flight == 2)
    held.gate.set()
    assert score_in(first.result()) == score_in(stays.result()) == 30.0
    metrics = dear.ask("GET", "/metrics").body.decode()
    assert 'tandem_shed_total{model="numeric",reason="cancelled"} 1' in metrics
    assert 'tandem_rows_total{model="numeric"} 2' in metrics


def test_who_leaves_a_stream_is_not_scored(dear: Engine, channel: grpc.Channel, held: Held) -> None:
    first = hold_first(channel, held)
    stream = channel.stream_stream(f"/{SERVICE}/{STREAM}")(iter([message()]), timeout=20)
    wait_until(lambda: dear.app.in_flight == 2)
    stream.cancel()
    wait_until(lambda: dear.app.in_flight == 1)
    held.gate.set()
    assert score_in(first.result()) == 30.0


def test_who_leaves_a_stream_as_its_answer_comes_is_counted_once(
    dear: Engine, channel: grpc.Channel, held: Held
) -> None:
    held.gate.clear()
    stream = channel.stream_stream(f"/{SERVICE}/{STREAM}")(iter([message()]), timeout=20)
    assert held.entered.wait(10)

    async def leave_and_answer_in_one_turn_of_the_loop() -> None:
        stream.cancel()
        assert dear.server.grpc is not None
        assert dear.server.grpc._server is not None
        wait_until(lambda todo=dear.server.grpc._server._todo: len(todo))
        held.gate.set()
        scoring = dear.app.model("numeric").batcher._thread
        assert scoring is not None
        scoring.submit(int).result(10)

    dear.run(leave_and_answer_in_one_turn_of_the_loop())
    wait_until(lambda: dear.app.in_flight == 0)
    metrics = dear.ask("GET", "/metrics").body.decode()
    assert 'tandem_in_flight{model="numeric"} 0' in metrics
    assert 'status="500"' not in metrics


def test_whose_deadline_passes_is_told_and_forgotten(dear: Engine, channel: grpc.Channel, held: Held) -> None:
    first = hold_first(channel, held)
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(INFER)(message(), timeout=0.2)
    assert status(caught)[0] == "DEADLINE_EXCEEDED"
    wait_until(lambda: dear.app.in_flight == 1)
    held.gate.set()
    assert score_in(first.result()) == 30.0


def test_a_call_that_comes_after_its_deadline_is_told_so_on_an_idle_engine(dear: Engine) -> None:
    answers: list[Answer] = []
    request = service_pb2.ModelInferRequest.FromString(message())

    async def come_late() -> None:
        passage = GrpcPassage(dear.app.model("numeric"), time.perf_counter(), answers.append)
        passage.begin(request, 100, 0.0, 10)

    dear.run(come_late())
    assert [(one.status, one.body) for one in answers] == [
        (504, b"the deadline had passed before the request was read")
    ]
    metrics = dear.ask("GET", "/metrics").body.decode()
    assert 'tandem_shed_total{model="numeric",reason="expired"} 1' in metrics
    assert 'tandem_in_flight{model="numeric"} 0' in metrics


def test_draining_is_said_and_waits_for_a_call(dear: Engine, channel: grpc.Channel, held: Held) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    first = hold_first(channel, held)
    drained = asyncio.run_coroutine_threadsafe(dear.server.drain(), dear.loop)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.RpcError) as caught:
        next(watch)
    assert status(caught) == ("UNAVAILABLE", STOPPING)
    assert not first.done()
    held.gate.set()
    assert score_in(first.result()) == 30.0
    drained.result(20)


@pytest.mark.parametrize("shared", [True, False])
def test_a_port_is_shared_by_those_who_say_so(
    scorers: Mapping[str, Scorer], settings: Serve, shared: bool
) -> None:
    async def scenario() -> None:
        app = ScoringApp(scorers, settings)
        first = GrpcServer(app, settings, shared=shared)
        await first.start()
        second = GrpcServer(app, msgspec.structs.replace(settings, grpc_port=first.port), shared=shared)
        if shared:
            await second.start()
            await second.drain()
        else:
            with pytest.raises(PortTaken, match="choose another grpc_port"):
                await second.start()
        await first.drain()
        await app.close()

    asyncio.run(scenario())


class TestShortDrain:
    @pytest.fixture
    def settings(self) -> Serve:
        return Serve(port=0, slo=Slo(10_000), grpc_port=0, drain_s=0.1)

    def test_a_call_is_ended_when_the_time_to_drain_is_over(
        self, dear: Engine, channel: grpc.Channel, held: Held
    ) -> None:
        first = hold_first(channel, held)
        waiting = channel.unary_unary(INFER).future(message(), timeout=20)
        wait_until(lambda: dear.app.in_flight == 2)
        dear.run(dear.server.drain())
        assert {first.code().name, waiting.code().name} <= {"CANCELLED", "UNAVAILABLE"}
        assert dear.app.in_flight == 0
        held.gate.set()


class TestShortIdleness:
    @pytest.fixture
    def settings(self) -> Serve:
        return Serve(port=0, slo=Slo(10_000), grpc_port=0, keep_alive_s=0.2)

    def test_an_idle_connection_is_closed_and_its_channel_goes_on(self, channel: grpc.Channel) -> None:
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append)
        infer = channel.unary_unary(INFER)
        assert score_in(infer(message(), timeout=20)) == 30.0
        wait_until(lambda: grpc.ChannelConnectivity.READY in states)
        wait_until(lambda: states[-1] is grpc.ChannelConnectivity.IDLE)
        assert score_in(infer(message(), timeout=20)) == 30.0


class TestShortPromise:
    @pytest.fixture
    def settings(self) -> Serve:
        return Serve(port=0, slo=Slo(1), grpc_port=0, drain_s=5.0)

    def test_what_would_be_late_is_refused_unread(
        self, dear: Engine, channel: grpc.Channel, held: Held
    ) -> None:
        first = hold_first(channel, held)
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(INFER)(message(name="no feature of it"), timeout=None)
        assert status(caught) == ("RESOURCE_EXHAUSTED", TOO_LATE)
        held.gate.set()
        assert score_in(first.result()) == 30.0
        metrics = dear.ask("GET", "/metrics").body.decode()
        assert 'tandem_shed_total{model="numeric",reason="overloaded"} 1' in metrics
