"""How a server of the comparison is asked, over HTTP or gRPC: once for a score, and in a closed loop."""

import http.client
import json
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from load_tests.fast.grpc_loop import run_closed_grpc
from load_tests.fast.run import FastLoad, record, run_fast
from load_tests.payloads.grpc_request import METHOD, infer_call, infer_request
from load_tests.payloads.wire import Request, raw
from load_tests.peers.contenders import Contender, Row
from load_tests.peers.model import NAME, SharedModel
from load_tests.results.recording import Recording

HOST = "127.0.0.1"
ASK_S = 10.0
REFUSALS = (429, 503, 504)
"""Statuses of what a server refuses by policy, not because it is wrong."""
TRIES = 20


class ServerFailed(Exception):
    """A server did not start, or gave other answers than the model's."""


class Asking(Protocol):
    """One way to ask a server."""

    def score(self, row: Row) -> float:
        """The score of one row; raises ``ServerFailed`` or ``OSError``."""

    def load(self, seconds: float, connections: int) -> Recording:
        """One-row requests in a closed loop over so many connections."""


def asking(contender: Contender, model: SharedModel, port: int) -> Asking:
    """The way a contender wants to be asked."""
    return OverGrpc(port, model) if contender.grpc else OverHttp(port, model, contender)


@dataclass(slots=True)
class OverHttp:
    """JSON over HTTP/1.1."""

    port: int
    model: SharedModel
    contender: Contender
    _payloads: list[bytes] = field(default_factory=list)

    def score(self, row: Row) -> float:
        """The score of one row; asked for again where a busy machine made the server refuse it."""
        for _ in range(TRIES):
            status, body = self._answer(row)
            if status not in REFUSALS:
                break
        if status != 200:
            raise ServerFailed(f"expected scores, got status {status}: {body[:200]!r}")
        return self.contender.decode(json.loads(body))

    def _answer(self, row: Row) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ASK_S)
        headers = {"Content-Type": "application/json"}
        try:
            connection.request("POST", self.contender.path, self.contender.encode(row), headers)
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def load(self, seconds: float, connections: int) -> Recording:
        """One-row requests in a closed loop."""
        if not self._payloads:
            headers = {"Content-Type": "application/json"}
            requests = (
                Request(self.contender.path, self.contender.encode(row), 1, headers)
                for row in self.model.rows
            )
            self._payloads = [raw(request, HOST, self.port) for request in requests]
        load = FastLoad((HOST, self.port), self._payloads, seconds, connections=connections)
        return run_fast(load).recording


@dataclass(slots=True)
class OverGrpc:
    """``ModelInfer`` with the row as raw bytes."""

    port: int
    model: SharedModel
    _messages: list[bytes] = field(default_factory=list)

    def score(self, row: Row) -> float:
        """The score of one row, read by NVIDIA's client."""
        import grpc
        from tritonclient.grpc import InferResult, service_pb2  # type: ignore[import-untyped]

        with grpc.insecure_channel(f"{HOST}:{self.port}") as channel:
            try:
                answer = infer_call(channel)(_message(row), timeout=ASK_S)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNAVAILABLE:
                    raise ConnectionError(error.details()) from error
                raise ServerFailed(f"expected scores, got {error.code().name}: {error.details()}") from error
        response = service_pb2.ModelInferResponse.FromString(answer)
        return float(InferResult(response).as_numpy(response.outputs[0].name).ravel()[0])

    def load(self, seconds: float, connections: int) -> Recording:
        """One-row calls in a closed loop."""
        self._messages = self._messages or [_message(row) for row in self.model.rows]
        address = (HOST, self.port)
        samples = run_closed_grpc(
            address, METHOD, self._messages, duration_s=seconds, connections=connections
        )
        return record(samples)


def _message(row: Row) -> bytes:
    return infer_request(NAME, pa.table({f"x{at}": row[at : at + 1] for at in range(len(row))}))
