"""Runs the Locust file in a process of its own and brings back what it measured."""

import os
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import msgspec

from engine.demo.commands import ended_by_signals
from engine.errors import Failed, InvalidConfig
from load_tests.progress import show_live
from load_tests.results.recording import Recording
from load_tests.results.result import Load

USERS = {
    "rows": "JsonRows",
    "oip": "OipJson",
    "binary": "BinaryTensors",
    "arrow": "ArrowStream",
    "grpc": "Grpc",
}
"""Wire format → class of users in the Locust file."""
WEB_HOST = "127.0.0.1"
"""Where Locust's own page listens, which else would be everywhere."""


def run_locust(load: Load, sample: str, *, web_port: int | None = None) -> tuple[Recording, str | None]:
    """Run a load headless, or with Locust's own web page on ``web_port``.

    Returns what was seen, and a sentence where Locust itself was the limit.

    Raises:
        InvalidConfig: The call is wrong; Locust's process printed the sentence why.
        Failed: Locust itself did not come to an end.
    """
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "recording"
        command = [*_command(load, sample), "--recording", str(recording)]
        command += ["--headless"] if web_port is None else _web_page(web_port)
        show_live("starting Locust")
        code = _run(command)
        if not recording.exists() or not recording.stat().st_size:
            raise Failed(f"expected a result from Locust, got none; it left with code {code}")
        if code == 2:
            raise InvalidConfig("the load test could not start, for the reason above")
        return msgspec.msgpack.decode(recording.read_bytes(), type=tuple[Recording, str | None])


def _run(command: list[str]) -> int:
    """Run Locust to its end. What interrupts the wait for it, kills it with its workers.

    They are a process group of their own: a Ctrl-C that struck them while they start would end each with a
    traceback, or some and not others.
    """
    with ended_by_signals():
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0
        )
        try:
            return process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _web_page(port: int) -> list[str]:
    return ["--web-host", WEB_HOST, "--web-port", str(port), "--autostart"]


def _command(load: Load, sample: str) -> list[str]:
    spec = find_spec("load_tests.realtime")
    if spec is None or spec.origin is None:
        raise Failed("expected the Locust file load_tests/realtime.py beside this module, which is gone")
    options = {
        "--locustfile": spec.origin,
        "--host": load.url,
        "--users": str(load.users),
        "--seconds": str(load.duration_s),
        "--processes": str(load.processes),
        "--sample": sample,
        "--model": load.model,
        "--rows-per-request": str(load.rows_per_request),
        "--rate": str(load.rate or 0.0),
        "--shape": load.shape,
        "--grpc-port": str(load.grpc_port or 0),
        "--deadline": str(load.deadline_s or 0.0),
        "--parent": str(os.getpid()),
    }
    if load.processes == 1:
        del options["--processes"]
    flat = [text for pair in options.items() for text in pair]
    return [sys.executable, "-m", "locust", *flat, "--skip-log-setup", USERS[load.wire]]
