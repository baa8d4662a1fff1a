import asyncio
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
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.local import _reload, serve_local
from engine.realtime.serving.reloading import Loader
from engine.scorer import Scorer

PROGRAM = """
import sys
from engine.config import Config, Model, Serve
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.local import _reload, serve_local
from engine.realtime.serving.reloading import Loader
from engine.scorer import Scorer
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


def test_a_path_that_leads_nowhere_is_said(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (str(loop), "with\0null"):
        with pytest.raises(InvalidBundle, match="path of model 'x'"):
            Loader({"x": Model(path)}, lambda _: None).load_all()


def test_a_reload_that_meets_a_bug_says_so_and_the_engine_goes_on(
    scorers: Mapping[str, Scorer], capsys: pytest.CaptureFixture[str]
) -> None:
    def buggy() -> Config:
        raise ZeroDivisionError

    app = ScoringApp(scorers, Serve(port=0))
    asyncio.run(_reload(Loader({}, lambda _: None), app, buggy))
    assert capsys.readouterr().err.startswith("not reloaded: a bug in the engine")
    asyncio.run(app.close())
