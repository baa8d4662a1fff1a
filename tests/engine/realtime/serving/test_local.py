import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.config import Config, Model, Serve
from engine.errors import InvalidBundle, InvalidConfig, PortTaken
from engine.realtime.serving.local import serve_local

PROGRAM = """
import sys
from engine.config import Config, Model, Serve
from engine.realtime.serving.local import serve_local
serve_local(Config(models={"numeric": Model(sys.argv[1])}, serve=Serve(port=0)))
"""


def test_it_answers_and_ends_on_ctrl_c(bundles: Mapping[str, Path]) -> None:
    started_s = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(bundles["numeric"])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    body = json.dumps({"rows": [{"f0": 1, "f1": 2, "f2": 3, "f3": 4}]}).encode()
    with urllib.request.urlopen(f"{url}/v1/models/numeric/score", body, timeout=20) as answer:
        assert json.loads(answer.read())["scores"] == [30.0]
    took_s = time.monotonic() - started_s
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 0
    assert [
        word for word in ("loading", "warming up", "ready after", "draining", "stopped") if word not in told
    ] == []
    print(f"first answer after {took_s:.1f} s")


def test_a_taken_port_is_said_before_anything_is_loaded(bundles: Mapping[str, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = Serve(port=other.getsockname()[1])
        with pytest.raises(PortTaken):
            serve_local(Config(models={"x": Model("/nowhere")}, serve=settings))


def test_no_models_and_no_bundle_are_said() -> None:
    with pytest.raises(InvalidConfig, match="--model"):
        serve_local(Config())
    with pytest.raises(InvalidBundle, match="/nowhere"):
        serve_local(Config(models={"x": Model("/nowhere")}, serve=Serve(port=0)))
