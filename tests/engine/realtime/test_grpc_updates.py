"""Clients that are set as the README says lose no call when replicas are replaced under load."""

import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import grpc
import msgspec

from engine.config import Serve, Slo
from engine.realtime.serving.app import ScoringApp
from engine.scorer import Scorer
from tests.engine.realtime.running import Engine, start
from tests.engine.realtime.test_grpc_calls import INFER, message, score_in

SERVICE_CONFIG = Path(__file__).parents[3] / "configs" / "grpc_client.json"
SETTINGS = Serve(port=0, slo=Slo(10_000), grpc_port=0, drain_s=5.0)
PACE_S = 0.002
"""Between two calls of a client."""


def replica(scorers: Mapping[str, Scorer], grpc_port: int) -> AbstractContextManager[Engine]:
    """An engine on a gRPC port that it shares; it drains at the end."""
    settings = msgspec.structs.replace(SETTINGS, grpc_port=grpc_port)
    return contextmanager(start)(lambda: ScoringApp(scorers, settings), settings, shared=True)


def outcomes(port: int, enough: threading.Event) -> Counter[str]:
    """What becomes of the calls of a client that waits for no answer before it makes the next."""
    options = (("grpc.service_config", SERVICE_CONFIG.read_text()), ("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        infer = channel.unary_unary(INFER)
        calls = []
        while not enough.wait(PACE_S):
            calls.append(infer.future(message(), timeout=20))
        return Counter(str(call.exception() or score_in(call.result())) for call in calls)


def test_no_call_is_lost_when_replicas_are_replaced(scorers: Mapping[str, Scorer]) -> None:
    enough = threading.Event()
    with ExitStack() as running:
        first = running.enter_context(replica(scorers, 0))
        assert first.server.grpc is not None
        port = first.server.grpc.port
        with ThreadPoolExecutor() as threads:
            clients = [threads.submit(outcomes, port, enough) for _ in range(4)]
            try:
                for _ in range(10):
                    with running.pop_all():
                        running.enter_context(replica(scorers, port))
            finally:
                enough.set()
        counted = sum((client.result() for client in clients), Counter[str]())
    assert list(counted) == ["30.0"]
    assert counted["30.0"] > 100
