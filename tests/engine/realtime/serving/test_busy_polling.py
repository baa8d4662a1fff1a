import asyncio
import json
import math
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from engine.config import Serve
from engine.realtime.serving import busy_polling, connection
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.busy_polling import PROVED, BusyPolling
from engine.scorer import Scorer
from tests.engine.realtime.running import Engine, start
from tests.waiting import wait_until

BODY = json.dumps({"rows": [{"f0": 1, "f1": 2, "f2": 3, "f3": 4}]}).encode()
HEAD = b"POST /v1/models/numeric/score HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY)


@pytest.fixture
def fresh(scorers: Mapping[str, Scorer]) -> Iterator[Engine]:
    settings = Serve(port=0)
    yield from start(lambda: ScoringApp(scorers, settings), settings)


def test_a_loop_takes_turns_for_a_moment_and_no_longer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(busy_polling, "MOMENT_S", 0.02)

    async def poll() -> BusyPolling:
        loop = asyncio.get_running_loop()
        polling = BusyPolling(loop)
        polling.begin(time.perf_counter())
        await asyncio.sleep(0.2)
        return polling

    polling = asyncio.run(poll())
    assert 0 < polling.used_s < 0.1
    assert not polling._is_scheduled


def test_turns_end_when_somebody_comes_and_are_counted_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(busy_polling, "MOMENT_S", math.inf)

    async def poll() -> None:
        polling = BusyPolling(asyncio.get_running_loop())
        for _ in range(3):
            polling.begin(time.perf_counter())
        await asyncio.sleep(0)
        polling.end()
        used_s = polling.used_s
        await asyncio.sleep(0.01)
        polling.end()
        assert polling.used_s == used_s > 0
        assert not polling._is_scheduled

    asyncio.run(asyncio.wait_for(poll(), 10))


def test_what_others_do_on_the_loop_meanwhile_is_not_counted_as_polling():
    async def poll() -> float:
        polling = BusyPolling(asyncio.get_running_loop())
        polling.begin(time.perf_counter())
        began_s = time.thread_time()
        while time.thread_time() - began_s < 0.02:
            pass
        polling.end()
        return polling.used_s

    assert 0 < asyncio.run(poll()) <= busy_polling.MOMENT_S


@contextmanager
def client(engine: Engine) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as ours:
        yield ours


def ask(ours: socket.socket) -> None:
    ours.sendall(HEAD + BODY)
    assert ours.recv(4096).endswith(b'"scores":[30.0]}')


def within(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for module in (busy_polling, connection):
        monkeypatch.setattr(module, "MOMENT_S", seconds)


def test_the_loop_stays_awake_for_a_client_that_comes_back_at_once(
    fresh: Engine, monkeypatch: pytest.MonkeyPatch
):
    within(monkeypatch, 0.2)  # however busy the machine is
    with client(fresh) as ours:
        for _ in range(PROVED):
            ask(ours)
        assert fresh.server.polling.used_s == 0
        ask(ours)
        wait_until(lambda: fresh.server.polling.used_s > 0.01)


def test_the_loop_sleeps_where_a_client_takes_its_time(fresh: Engine, monkeypatch: pytest.MonkeyPatch):
    within(monkeypatch, 1e-9)  # nobody is so fast
    with client(fresh) as ours:
        for _ in range(3 * PROVED):
            ask(ours)
    assert fresh.server.polling.used_s == 0


def test_one_new_client_among_quick_ones_is_not_waited_for(fresh: Engine, monkeypatch: pytest.MonkeyPatch):
    within(monkeypatch, 60.0)
    for _ in range(3 * PROVED):
        with client(fresh) as ours:
            ask(ours)
    assert fresh.server.polling.used_s == 0
