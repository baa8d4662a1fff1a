"""Locust's gRPC user against a real gRPC server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

from load_tests.command import Wishes, plan_load
from load_tests.locust_run import run_locust
from load_tests.results.recording import Recording


class Answering(grpc.GenericRpcHandler):
    """Answers one request, refuses the next, and goes away in the middle of a third."""

    def __init__(self) -> None:
        self.carriers: list[bytes] = []

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        assert details.method == "/inference.GRPCInferenceService/ModelInfer"
        return grpc.unary_unary_rpc_method_handler(self.infer)

    def infer(self, body: bytes, context: grpc.ServicerContext) -> bytes:
        request = service_pb2.ModelInferRequest.FromString(body)
        self.carriers.append(request.raw_input_contents[0])
        if len(self.carriers) % 3 == 1:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        if len(self.carriers) % 3 == 2:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return b""


@pytest.fixture
def answering() -> Iterator[tuple[Answering, int]]:
    handler = Answering()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, port
    server.stop(None).wait()


@pytest.mark.slow
def test_rows_go_out_as_infer_calls_refusals_count_as_shed_and_answers_that_did_not_come_as_failed(
    serving: Any, sample: Path, answering: tuple[Answering, int]
) -> None:
    handler, port = answering
    server = serving(lambda path, body: (404, b""))
    wishes = Wishes(sample=str(sample), wire="grpc", users=2, duration="2s", grpc_port=port)
    recording: Recording = run_locust(*plan_load(server.url, wishes))[0]
    outcomes = [
        sum(getattr(second, name) for second in recording.seconds.values())
        for name in ("ok", "shed", "failed")
    ]
    assert min(outcomes) > 10
    assert recording.errors == {"UNAVAILABLE gone": outcomes[2]}
    assert set(handler.carriers) == {b"\x02\0\0\0UA", b"\0\0\0\0", b"\x02\0\0\0B6"}
