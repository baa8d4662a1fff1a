"""The fast generator against a real server: every request ends in one outcome."""

import threading
from typing import Any

import numpy as np

from load_tests.fast.generator import FastGenerator
from load_tests.fast.run import FastLoad, run_fast
from load_tests.payloads.wire import Request, raw


def payloads(server: Any, n: int = 4) -> list[bytes]:
    return [
        raw(Request("/score", f"row {row}".encode(), 1), "127.0.0.1", server.server_port) for row in range(n)
    ]


def answer_at_once(path: str, body: bytes) -> tuple[int, bytes]:
    return 200, body


def test_each_arrival_is_answered_once(serving: Any) -> None:
    server = serving(answer_at_once)
    generator = FastGenerator(("127.0.0.1", server.server_port), payloads(server), n_connections=8)
    samples = generator.run_open(np.linspace(0, 0.3, 60))
    assert list(samples.status) == [200] * 60
    assert sorted(samples.due) == list(np.linspace(0, 0.3, 60))


def test_rows_rotate(serving: Any) -> None:
    seen: list[bytes] = []

    def note(path: str, body: bytes) -> tuple[int, bytes]:
        seen.append(body)
        return 200, b""

    server = serving(note)
    generator = FastGenerator(
        ("127.0.0.1", server.server_port), payloads(server, 3), n_connections=1, first=1
    )
    generator.run_open(np.linspace(0, 0.05, 4))
    assert seen == [b"row 1", b"row 2", b"row 0", b"row 1"]


def test_latency_counts_from_when_a_request_was_due_not_from_when_it_was_sent(serving: Any) -> None:
    pause = threading.Event()

    def slow_first(path: str, body: bytes) -> tuple[int, bytes]:
        pause.wait(0.3 if body == b"row 0" else 0)
        return 200, b""

    server = serving(slow_first)
    generator = FastGenerator(("127.0.0.1", server.server_port), payloads(server), n_connections=1)
    samples = generator.run_open(np.array([0.0, 0.01]))
    assert samples.latency[1] > 0.25


def test_a_closed_loop_sends_one_request_per_connection_at_a_time(serving: Any) -> None:
    under_way, most, lock = 0, 0, threading.Lock()

    def count(path: str, body: bytes) -> tuple[int, bytes]:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        threading.Event().wait(0.002)
        with lock:
            under_way -= 1
        return 200, b""

    server = serving(count)
    load = FastLoad(("127.0.0.1", server.server_port), payloads(server), 0.4, connections=3)
    outcome = run_fast(load)
    assert most == 3
    assert outcome.recording.latencies().n > 30


def test_refusals_are_shed_and_other_answers_failed(serving: Any) -> None:
    def refuse(path: str, body: bytes) -> tuple[int, bytes]:
        return {b"row 0": (429, b"busy"), b"row 1": (500, b"a bug")}.get(body, (200, b""))

    server = serving(refuse)
    load = FastLoad(("127.0.0.1", server.server_port), payloads(server), 0.5, connections=4, rate=200)
    seconds = run_fast(load).recording.seconds.values()
    outcomes = [sum(getattr(second, name) for second in seconds) for name in ("ok", "shed", "failed")]
    assert all(outcomes)


def test_an_engine_that_is_gone_counts_as_failures_with_a_reason(serving: Any) -> None:
    server = serving(answer_at_once)
    port = server.server_port
    server.shutdown()
    server.server_close()
    outcome = run_fast(FastLoad(("127.0.0.1", port), [b"x"], 0.2, connections=2, rate=50))
    assert outcome.recording.latencies().n == 0
    assert any("refused" in reason for reason in outcome.recording.errors)


def test_a_closing_server_gets_its_next_request_on_a_new_connection(serving: Any) -> None:
    server = serving(answer_at_once)
    server.RequestHandlerClass = type(
        "Closing", (server.RequestHandlerClass,), {"protocol_version": "HTTP/1.0"}
    )
    generator = FastGenerator(("127.0.0.1", server.server_port), payloads(server), n_connections=2)
    samples = generator.run_open(np.linspace(0, 0.2, 20))
    assert list(samples.status).count(200) == 20


def test_several_processes_share_the_rate(serving: Any) -> None:
    server = serving(answer_at_once)
    load = FastLoad(
        ("127.0.0.1", server.server_port), payloads(server), 1.0, connections=8, rate=200, processes=2
    )
    outcome = run_fast(load)
    assert 140 <= outcome.recording.latencies().n <= 260
