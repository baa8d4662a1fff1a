import gc
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from engine.config import Serve, Slo
from engine.realtime.batching.waiting import Waiting
from engine.realtime.serving.app import ScoringApp
from engine.scorer import Scorer
from tests.engine.realtime.running import Engine, start
from tests.waiting import wait_until

BODY = json.dumps({"rows": [{"f0": 1, "f1": 2, "f2": 3, "f3": 4}]})


class Held:
    """A scorer that takes long enough to be dear, and that waits at a gate when asked to."""

    def __init__(self, scorer: Scorer) -> None:
        self.revision, self.schema, self.preparer = scorer.revision, scorer.schema, scorer.preparer
        self.tabulate = scorer.tabulate
        self._scorer = scorer
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self.n_scored = 0

    def score_rows(self, X: Any) -> Any:
        self.n_scored += len(X)
        ends_s = time.perf_counter() + 0.001
        while time.perf_counter() < ends_s:
            pass
        if not self.gate.is_set():
            self.entered.set()
            self.gate.wait(10)
        return self._scorer.score_rows(X)


@pytest.fixture
def held(scorers: Mapping[str, Scorer]) -> Held:
    return Held(scorers["numeric"])


@pytest.fixture
def dear(held: Held) -> Iterator[Engine]:
    settings = Serve(port=0, slo=Slo(10_000), drain_s=5.0)
    yield from start(lambda: ScoringApp({"numeric": held}, settings), settings)


def send(engine: Engine, headers: str = "") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", engine.port), timeout=10)
    head = "POST /v1/models/numeric/score HTTP/1.1\r\nHost: x\r\n"
    client.sendall(f"{head}{headers}Content-Length: {len(BODY)}\r\n\r\n{BODY}".encode())
    return client


def test_who_goes_away_is_not_scored_and_hurts_nobody(dear: Engine, held: Held) -> None:
    held.gate.clear()
    first = send(dear)
    assert held.entered.wait(10)
    gone, stays = send(dear), send(dear)
    wait_until(lambda: dear.app.in_flight == 3)
    gone.close()
    wait_until(lambda: dear.app.in_flight == 2)
    held.gate.set()
    for client in (first, stays):
        assert b"30.0" in client.recv(10_000)
        client.close()
    metrics = dear.ask("GET", "/metrics").body.decode()
    assert 'tandem_shed_total{model="numeric",reason="cancelled"} 1' in metrics
    assert 'tandem_rows_total{model="numeric"} 2' in metrics


@pytest.mark.parametrize("end", ["leaves", "is late"])
def test_who_waits_in_vain_is_forgotten_at_once(
    dear: Engine, held: Held, uncollected: None, end: str
) -> None:
    held.gate.clear()
    first = send(dear)
    assert held.entered.wait(10)
    sent_s = time.perf_counter()
    second = send(dear, "Tandem-Timeout-S: 0.2\r\n")
    wait_until(lambda: dear.app.in_flight == 2)
    if end == "leaves":
        second.close()
        wait_until(lambda: dear.app.in_flight == 1)
    else:
        wait_until(lambda: time.perf_counter() > sent_s + 0.3)
    held.gate.set()
    assert b"30.0" in first.recv(10_000)
    if end == "is late":
        assert b"504" in second.recv(10_000)
    wait_until(lambda: not any(isinstance(one, Waiting) for one in gc.get_objects()), within_s=20)
    first.close()
    second.close()


def test_a_refusal_says_when_to_come_back(dear: Engine, held: Held) -> None:
    held.gate.clear()
    first = send(dear)
    assert held.entered.wait(10)
    reply = dear.ask("POST", "/v1/models/numeric/score", json.loads(BODY), {"Tandem-Timeout-S": "0.0001"})
    assert reply.status == 429
    assert int(reply.headers["retry-after"]) >= 1
    assert "not in time" in reply.json["error"]
    held.gate.set()
    assert b"30.0" in first.recv(10_000)
    first.close()


def test_the_timeout_parameter_is_in_microseconds(dear: Engine, held: Held) -> None:
    held.gate.clear()
    first = send(dear)
    assert held.entered.wait(10)
    tensor = {"name": "rows", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    request = {"parameters": {"timeout": 100}, "inputs": [tensor]}
    assert dear.ask("POST", "/v2/models/numeric/infer", request).status == 429
    held.gate.set()
    assert b"30.0" in first.recv(10_000)
    first.close()
    request["parameters"] = {"timeout": 5_000_000}
    assert dear.ask("POST", "/v2/models/numeric/infer", request).status == 200


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf"])
def test_a_timeout_header_that_is_no_time_is_a_bad_request(engine: Engine, value: str) -> None:
    reply = engine.ask("POST", "/v1/models/numeric/score", json.loads(BODY), {"Tandem-Timeout-S": value})
    assert (reply.status, "Tandem-Timeout-S" in reply.json["error"]) == (400, True)
