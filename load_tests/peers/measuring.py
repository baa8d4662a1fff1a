"""Starts a server, checks its answers, and measures it in closed loops of several widths."""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from load_tests.fast.run import FastLoad, run_fast
from load_tests.payloads.wire import Request, raw
from load_tests.peers.contenders import Contender, is_same
from load_tests.peers.model import SharedModel

CONNECTIONS = (1, 16, 64)
START_LIMIT_S = 180.0
STOP_LIMIT_S = 40.0
N_CHECKED = 100
WARM_S = 1.0


class ServerFailed(Exception):
    """A server did not start, or gave other answers than the model's."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One server at one width.

    Attributes:
        connections: Requests under way.
        qps: Requests answered a second.
        p50_s: Median latency.
        p99_s: 99th percentile.
        failed: Share of requests not answered with a score.
    """

    connections: int
    qps: float
    p50_s: float
    p99_s: float
    failed: float


def measure(contender: Contender, model: SharedModel, *, seconds: float) -> list[Measured]:
    """Measure a server once at each width; raises ``ServerFailed``."""
    with running(contender, model) as port:
        check(contender, model, port)
        headers = {"Content-Type": "application/json"}
        requests = (Request(contender.path, contender.encode(row), 1, headers) for row in model.rows)
        payloads = [raw(request, "127.0.0.1", port) for request in requests]
        run_fast(FastLoad(("127.0.0.1", port), payloads, WARM_S, connections=max(CONNECTIONS)))
        return [_measure(port, payloads, width, seconds) for width in CONNECTIONS]


def _measure(port: int, payloads: list[bytes], connections: int, seconds: float) -> Measured:
    outcome = run_fast(FastLoad(("127.0.0.1", port), payloads, seconds, connections=connections))
    latencies = outcome.recording.latencies()
    n_lost = sum(second.shed + second.failed for second in outcome.recording.seconds.values())
    p50_s, p99_s = latencies.percentiles((50, 99))
    return Measured(connections, latencies.n / seconds, p50_s, p99_s, n_lost / max(1, n_lost + latencies.n))


@contextmanager
def running(contender: Contender, model: SharedModel) -> Iterator[int]:
    """A started server's port; the server and all it started is stopped afterwards."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as scratch:
        log = Path(scratch) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                contender.command(model, port, Path(scratch)),
                env=contender.variables(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _await_answer(contender, model, port, process, log)
            yield port
        finally:
            _stop(process)


def check(contender: Contender, model: SharedModel, port: int) -> None:
    """Ask for the scores of some rows; raises ``ServerFailed`` where one is not the model's."""
    for row, truth in zip(model.rows[:N_CHECKED], model.scores, strict=False):
        status, body = _ask(port, contender.path, contender.encode(row))
        if status != 200:
            raise ServerFailed(f"expected scores, got status {status}: {body[:200]!r}")
        score = contender.decode(json.loads(body))
        if not is_same(score, float(truth)):
            raise ServerFailed(f"expected the score {truth:.7f}, got {score:.7f}")


def _await_answer(
    contender: Contender, model: SharedModel, port: int, process: subprocess.Popen[bytes], log: Path
) -> None:
    body, until = contender.encode(model.rows[0]), time.monotonic() + START_LIMIT_S
    while True:
        try:
            if _ask(port, contender.path, body)[0] == 200:
                return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > until:
            words = log.read_text(errors="replace").strip()[-800:]
            raise ServerFailed(f"it did not start; its last words: {words}")
        time.sleep(0.25)


def _ask(port: int, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
