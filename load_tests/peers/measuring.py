"""Starts a server, checks its answers, and measures it in closed loops of several widths."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from load_tests.peers.asking import Asking, ServerFailed, asking
from load_tests.peers.contenders import Contender, Row, is_same
from load_tests.peers.model import SharedModel

CONNECTIONS = (1, 16, 64)
START_LIMIT_S = 180.0
STOP_LIMIT_S = 40.0
N_CHECKED = 100
WARM_S = 1.0
PORTS = range(20_000, 29_998, 3)
"""For a server and what else it listens on. From higher ones the system chooses ports for connections and
others, so that a port which was free may be taken when the server asks for it."""


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
    with running(contender, model) as server:
        check(server, model)
        server.load(WARM_S, max(CONNECTIONS))
        return [_measure(server, width, seconds) for width in CONNECTIONS]


def _measure(server: Asking, connections: int, seconds: float) -> Measured:
    recording = server.load(seconds, connections)
    latencies = recording.latencies()
    n_lost = sum(second.shed + second.failed for second in recording.seconds.values())
    p50_s, p99_s = latencies.percentiles((50, 99))
    return Measured(connections, latencies.n / seconds, p50_s, p99_s, n_lost / max(1, n_lost + latencies.n))


@contextmanager
def running(contender: Contender, model: SharedModel) -> Iterator[Asking]:
    """A started server, to be asked; the server and all it started is stopped afterwards."""
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
            server = asking(contender, model, port)
            _await_answer(server, model.rows[0], process, log)
            yield server
        finally:
            _stop(process)


def check(server: Asking, model: SharedModel) -> None:
    """Ask for the scores of some rows; raises ``ServerFailed`` where one is not the model's."""
    for row, truth in zip(model.rows[:N_CHECKED], model.scores, strict=False):
        score = server.score(row)
        if not is_same(score, float(truth)):
            raise ServerFailed(f"expected the score {truth:.7f}, got {score:.7f}")


def _await_answer(server: Asking, row: Row, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_LIMIT_S
    while True:
        try:
            server.score(row)
            return
        except (OSError, ServerFailed) as error:
            said = str(error)
        if process.poll() is not None or time.monotonic() > until:
            words = log.read_text(errors="replace").strip()[-800:]
            raise ServerFailed(f"it did not start ({said}); its last words: {words}")
        time.sleep(0.25)


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
    """A free port, with free ones behind it for what a server listens on besides."""
    for port in random.sample(PORTS, len(PORTS)):
        with contextlib.suppress(OSError), contextlib.ExitStack() as listening:
            for place in range(PORTS.step):
                listening.enter_context(socket.create_server(("127.0.0.1", port + place)))
            return port
    raise ServerFailed(f"no free port from {PORTS.start} to {PORTS.stop}")
