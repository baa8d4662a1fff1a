"""How gRPC connections end by age, and streams when the engine drains."""

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Queue
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2

from engine.config import Serve, Slo
from engine.realtime.grpc.messages import SERVICE, STREAM
from engine.realtime.grpc.server import GrpcServer
from engine.realtime.grpc.transport import STOPPING, CoreServer
from engine.realtime.serving.app import ScoringApp
from engine.scorer import Scorer
from load_tests.fast.grpc_loop import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    SETTINGS,
    call_frames,
    frame,
    header_block,
)
from tests.engine.realtime.running import Engine, start
from tests.engine.realtime.test_disconnect import Held
from tests.engine.realtime.test_grpc_calls import INFER, frames, message, score_in, status
from tests.waiting import wait_until


@pytest.fixture
def held(scorers: Mapping[str, Scorer]) -> Held:
    return Held(scorers["numeric"])


@pytest.fixture
def settings() -> Serve:
    return Serve(port=0, slo=Slo(10_000), grpc_port=0, drain_s=5.0)


@pytest.fixture
def engine(held: Held, settings: Serve) -> Iterator[Engine]:
    yield from start(lambda: ScoringApp({"numeric": held}, settings), settings)


@pytest.fixture
def port(engine: Engine) -> int:
    assert engine.server.grpc is not None
    return engine.server.grpc.port


@pytest.fixture
def channel(port: int) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


@pytest.fixture
def states(channel: grpc.Channel) -> list[grpc.ChannelConnectivity]:
    """The channel's states so far: it is idle again when it is told that its connection is old."""
    states: list[grpc.ChannelConnectivity] = []
    channel.subscribe(states.append)
    return states


class Stream:
    """A client's stream, its requests sent one by one."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests: Queue[bytes | None] = Queue()
        infer = channel.stream_stream(f"/{SERVICE}/{STREAM}")
        self._answers = infer(iter(self._requests.get, None), timeout=20)

    def send(self) -> None:
        self._requests.put(message())

    def receive(self) -> float:
        response = service_pb2.ModelStreamInferResponse.FromString(next(self._answers))
        return score_in(response.infer_response.SerializeToString())

    def is_ended(self) -> bool:
        """Whether it ends well, and without another answer, when its client ends it."""
        self._requests.put(None)
        return not list(self._answers)

    def send_and_receive(self) -> bool:
        """Send a request behind the next answer; False where the stream has failed instead."""
        try:
            assert self.receive() == 30.0
        except grpc.RpcError:
            return False
        self.send()
        return True

    def failure(self) -> tuple[str, str]:
        """What it ends with instead of another answer."""
        with pytest.raises(grpc.RpcError) as caught:
            next(self._answers)
        return status(caught)


class TestShortAge:
    @pytest.fixture
    def settings(self, settings: Serve, monkeypatch: pytest.MonkeyPatch) -> Serve:
        monkeypatch.setattr(GrpcServer, "max_age_s", 0.5)
        return settings

    def test_a_channel_under_load_gets_new_connections_and_loses_no_call(
        self, channel: grpc.Channel, states: list[grpc.ChannelConnectivity]
    ) -> None:
        infer, enough = channel.unary_unary(INFER), threading.Event()

        def scores() -> list[float]:
            given = []
            while not enough.is_set():
                given.append(score_in(infer(message(), timeout=20)))
            return given

        with ThreadPoolExecutor() as threads:
            asking: list[Future[list[float]]] = [threads.submit(scores) for _ in range(4)]
            try:
                wait_until(lambda: states.count(grpc.ChannelConnectivity.READY) >= 4, within_s=20)
            finally:
                enough.set()
            given = [score for one in asking for score in one.result()]
        assert len(given) > 100
        assert set(given) == {30.0}

    def test_a_stream_goes_on_for_the_grace(
        self, channel: grpc.Channel, states: list[grpc.ChannelConnectivity], held: Held
    ) -> None:
        stream = Stream(channel)
        stream.send()
        assert stream.receive() == 30.0
        held.gate.clear()
        stream.send()
        told = [grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.IDLE]
        wait_until(lambda: states[-2:] == told, within_s=20)
        held.gate.set()
        stream.send()
        assert [stream.receive(), stream.receive()] == [30.0, 30.0]
        assert stream.is_ended()


class TestShortAgeAndGrace:
    @pytest.fixture
    def settings(self, settings: Serve, monkeypatch: pytest.MonkeyPatch) -> Serve:
        monkeypatch.setattr(GrpcServer, "max_age_s", 1.0)
        monkeypatch.setattr(GrpcServer, "grace_s", 0.5)
        return settings

    def test_a_message_that_comes_in_part_ends_with_its_connection(self, port: int) -> None:
        headers = frame(HEADERS, END_HEADERS, 1, header_block(INFER, "here"))
        part = frame(DATA, 0, 1, b"\x00" + (1000).to_bytes(4, "big") + b"the first of a thousand")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(PREFACE + frame(SETTINGS, 0, 0) + headers + part)
            came = list(frames(client.makefile("rb")))
        assert GOAWAY in [kind for kind, _ in came]
        assert [kind for kind, flags in came if flags & END_STREAM and kind in {HEADERS, DATA}] == [HEADERS]

    def test_a_stream_ends_after_the_grace_and_the_next_one_is_answered(self, channel: grpc.Channel) -> None:
        stream = Stream(channel)
        stream.send()
        assert stream.receive() == 30.0
        assert stream.failure()[0] == "UNAVAILABLE"
        stream = Stream(channel)
        stream.send()
        assert stream.receive() == 30.0


class TestLongDrain:
    @pytest.fixture
    def settings(self) -> Serve:
        return Serve(port=0, slo=Slo(10_000), grpc_port=0, drain_s=600.0)

    def test_an_idle_stream_does_not_keep_the_engine_from_ending(self, engine: Engine, port: int) -> None:
        ends: Queue[Any] = Queue()
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            client.start_stream(lambda result, error: ends.put((result, error)))
            wait_until(lambda: n_idle(engine) == 1)
            engine.run(engine.server.drain())
            result, error = ends.get(timeout=20)
        assert (result, error.status(), error.message()) == (None, "StatusCode.UNAVAILABLE", STOPPING)

    def test_a_stream_gets_the_answers_under_way_before_it_ends(
        self, engine: Engine, channel: grpc.Channel, held: Held, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("engine.realtime.grpc.transport.IDLE_S", 0.5)  # however busy the machine is
        monkeypatch.setattr("engine.realtime.grpc.transport.BUSY_S", 60.0)
        stream = Stream(channel)
        held.gate.clear()
        for _ in range(3):
            stream.send()
        assert held.entered.wait(10)
        idle = Stream(channel)
        wait_until(lambda: n_idle(engine) == 1)
        drained = asyncio.run_coroutine_threadsafe(engine.server.drain(), engine.loop)
        assert idle.failure() == ("UNAVAILABLE", STOPPING)
        held.gate.set()
        assert [stream.receive() for _ in range(3)] == [30.0, 30.0, 30.0]
        assert stream.failure() == ("UNAVAILABLE", STOPPING)
        drained.result(30)

    def test_a_stream_that_is_never_idle_ends_once_what_was_read_is_answered(
        self, engine: Engine, channel: grpc.Channel, held: Held
    ) -> None:
        n_scored = held.n_scored
        stream = Stream(channel)
        for _ in range(3):  # three are on their way all the time
            stream.send()
        assert all(stream.send_and_receive() for _ in range(100))
        drained = asyncio.run_coroutine_threadsafe(engine.server.drain(), engine.loop)
        n_answers = 100
        while stream.send_and_receive():
            n_answers += 1
        assert stream.failure() == ("UNAVAILABLE", STOPPING)
        assert n_answers == held.n_scored - n_scored
        drained.result(30)


class TestLongHold:
    @pytest.fixture
    def settings(self, settings: Serve, monkeypatch: pytest.MonkeyPatch) -> Serve:
        monkeypatch.setattr("engine.realtime.grpc.transport.HOLD_S", 2.0)  # however busy the machine is
        return settings

    def test_a_client_is_answered_until_it_goes_elsewhere(
        self, engine: Engine, channel: grpc.Channel
    ) -> None:
        infer = channel.unary_unary(INFER)
        given = [score_in(infer(message(), timeout=20))]
        drained = asyncio.run_coroutine_threadsafe(engine.server.drain(), engine.loop)
        wait_until(lambda: engine.app.draining)
        failed = infer.future(message(), timeout=20)
        while failed.exception() is None:
            given.append(score_in(failed.result()))
            failed = infer.future(message(), timeout=20)
        assert "failed to connect" in failed.details()
        assert len(given) > 1
        assert set(given) == {30.0}
        drained.result(30)

    def test_a_call_that_comes_as_the_engine_drains_is_answered_behind_the_goaway(
        self, engine: Engine, port: int
    ) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(PREFACE + frame(SETTINGS, 0, 0))
            drained = asyncio.run_coroutine_threadsafe(engine.server.drain(), engine.loop)
            wait_until(lambda: core(engine).held is not None)
            client.sendall(call_frames(1, header_block(INFER, "here"), message()))
            came = [kind for kind, _ in frames(client.makefile("rb")) if kind in {GOAWAY, HEADERS, DATA}]
            drained.result(30)
        assert came[:4] == [GOAWAY, HEADERS, DATA, HEADERS]


def core(engine: Engine) -> CoreServer:
    """What drives the C core."""
    assert engine.server.grpc is not None
    assert engine.server.grpc._server is not None
    return engine.server.grpc._server


def n_idle(engine: Engine) -> int:
    """Streams without a request under way."""
    return len(core(engine).idle_since_s)
