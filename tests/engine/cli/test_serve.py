"""``tandem serve`` as a person meets it: a process, its output, its exit code, Ctrl-C."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from engine.cli import serve
from engine.config import Config
from engine.realtime.replicas import pool
from kernels.gpu.device import gpu_is_available
from tests.engine.realtime.accounting import Account, Client
from tests.engine.realtime.running import NUMERIC, Lane, bundle

TANDEM = [sys.executable, "-m", "engine.cli"]
BODY = json.dumps({"rows": [{"f0": 1, "f1": 1, "f2": 1, "f3": 1}]}).encode()
CONFIG = """
models: {{numeric: {{bundle: {bundle}}}}}
serve: {{port: 0, ingress_port: 0, slo: {{p99_ms: 10000}}}}
jobs: {{port: 0}}
"""
PATH = "/v1/models/numeric/score"


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("packed"), "numeric", NUMERIC)


@contextmanager
def started(arguments: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A ``tandem`` that knows nothing of this test run's own Ray; interrupted if it is still there."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TANDEM_"))}
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            [*TANDEM, *arguments],
            stdout=pipe,
            stderr=pipe,
            text=True,
            env=inherited | environment,
            cwd=directory,
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)


def ended(arguments: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a ``tandem`` that ends by itself."""
    with started(arguments) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def processes_with(mark: str) -> set[str]:
    """The command lines of living processes that inherited ``mark``."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found.add((entry / "cmdline").read_text().replace("\0", " ")[:80])
        except OSError:
            continue
    return found


def lines_until(process: subprocess.Popen[str], stream: IO[str] | None, last: str) -> str:
    assert stream is not None
    read = ""
    for line in stream:
        read += line
        if last in line:
            return read
    raise AssertionError(f"it ended early: {read}{process.communicate()}")


def documented_jobs(port: int) -> str:
    """Where the document that an engine gives says that batch jobs are taken."""
    (server,) = Lane(port).ask("GET", "/v2/openapi.json").json["paths"]["/v1/jobs"]["servers"]
    return server["url"].format(host=server["variables"]["host"]["default"])


def ports_on(page: str) -> list[int]:
    return [int(port) for port in re.findall(r"^  (?:direct|Ray).*:(\d+)$", page, re.MULTILINE)]


@pytest.mark.ray
@pytest.mark.slow
def test_an_engine_on_ray_answers_on_both_lanes_reloads_and_leaves_without_a_loss(packed, tmp_path):
    mark = uuid.uuid4().hex
    current = tmp_path / "current"
    current.symlink_to(packed)
    config = tmp_path / "engine.yaml"
    config.write_text(CONFIG.format(bundle=current))
    with started(["serve", str(config)], MARK=mark) as process:
        said = lines_until(process, process.stdout, "Ctrl-C")
        ports = ports_on(said)
        assert [f"  batch jobs   {documented_jobs(port)}" in said.splitlines() for port in ports] == [
            True
        ] * 2
        assert [Lane(port).ask("POST", PATH, BODY).json["scores"] for port in ports] == [[10.0], [10.0]]
        clients = [Client(port, PATH, BODY, b'"scores":[') for port in ports for _ in range(3)]
        for client in clients:
            client.start()
        second = ["serve", str(config), "--port", str(ports[0])]
        assert ended(second)[2].startswith(
            f"error: cannot listen on 127.0.0.1:{ports[0]}: Address already in use"
        )

        current.unlink()
        current.symlink_to(bundle(tmp_path, "numeric", NUMERIC, scale=2.0))
        process.send_signal(signal.SIGHUP)
        assert lines_until(process, process.stderr, "reloaded").splitlines() == [
            "starting Ray",
            "starting the ingress",
            "starting 1 replica: load, compile, warm up",
            "waiting for the first answers",
            "reloaded: numeric",
        ]
        assert [Lane(port).ask("POST", PATH, BODY).json["scores"] for port in ports] == [[20.0], [20.0]]

        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    account = Account.sum(client.stop() for client in clients)
    assert account.losses == []
    assert account.outcomes["answered"] > 20
    assert process.returncode == 0
    assert err == "draining; Ctrl-C again stops at once\n"
    assert processes_with(mark) == set()


def test_an_engine_without_ray_reloads_on_sighup_and_a_bad_bundle_changes_nothing(packed, tmp_path):
    current = tmp_path / "current"
    current.symlink_to(packed)
    config = tmp_path / "engine.yaml"
    config.write_text(CONFIG.format(bundle=current))
    with started(["serve", "--local", str(config)]) as process:
        port = int(process.stdout.readline().rpartition(":")[2])
        said = lines_until(process, process.stderr, "ready after")
        assert f"taking batch jobs at {documented_jobs(port)}" in said.splitlines()
        clients = [Client(port, PATH, BODY, b'"scores":[') for _ in range(3)]
        for client in clients:
            client.start()

        def told_after(bundle: Path | str, name: str = "numeric") -> str:
            config.write_text(CONFIG.format(bundle=bundle).replace("numeric", name))
            process.send_signal(signal.SIGHUP)
            return lines_until(process, process.stderr, "reloaded:").splitlines()[-1]

        def scores() -> list[float]:
            return Lane(port).ask("POST", PATH, BODY).json["scores"]

        assert told_after(current) == "reloaded: nothing, no bundle changed"
        current.unlink()
        current.symlink_to(bundle(tmp_path, "numeric", NUMERIC, scale=2.0))
        assert (told_after(current), scores()) == ("reloaded: numeric", [20.0])
        assert (told_after(packed), scores()) == ("reloaded: numeric", [10.0])
        damaged = bundle(tmp_path, "numeric", NUMERIC, scale=3.0)
        (damaged / "linear.npz").write_bytes(b"damaged")
        loop = tmp_path / "loop"
        loop.symlink_to(loop)
        wrong = (
            (damaged, "numeric"),
            ("/nowhere", "numeric"),
            (loop, "numeric"),
            (packed, "other"),
            ("[", "x"),
        )
        for path, name in wrong:
            assert told_after(path, name).startswith("not reloaded: ")
            assert scores() == [10.0]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    account = Account.sum(client.stop() for client in clients)
    assert account.losses == []
    assert account.outcomes["answered"] > 20
    assert process.returncode == 0


def test_a_reload_of_an_engine_on_ray_that_meets_a_bug_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def buggy(config: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pool, "follow", buggy)
    serve._reload(Config)
    assert capsys.readouterr().err.startswith("not reloaded: a bug in the engine")


@pytest.mark.parametrize("option", ["--port", "--ingress-port", "--jobs-port"])
def test_a_taken_port_is_said_in_one_sentence(packed, option):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        ports = {"--port": "0", "--ingress-port": "0", "--jobs-port": "0", option: port}
        options = [word for pair in ports.items() for word in pair]
        code, out, err = ended(["serve", "--model", f"numeric={packed}", *options])
    assert (code, out) == (5, "")
    assert (
        err == f"error: cannot listen on 127.0.0.1:{port}: Address already in use; choose another {option}\n"
    )


@pytest.mark.parametrize("option", ["--port", "--jobs-port"])
def test_without_ray_a_taken_port_is_said_with_the_option_that_chooses_another(packed, option):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        ports = {"--port": "0", "--jobs-port": "0", option: port}
        options = [word for pair in ports.items() for word in pair]
        code, out, err = ended(["serve", "--local", "--model", f"numeric={packed}", *options])
    assert (code, out) == (5, "")
    sentence = err.splitlines()[-1]
    assert f"127.0.0.1:{port}: Address already in use; choose another {option}" in sentence


def test_options_for_ray_are_refused_without_it(packed):
    options = ["--replicas", "2", "--address", "auto"]
    code, out, err = ended(["serve", "--local", "--model", f"numeric={packed}", *options])
    assert (code, out) == (2, "")
    assert err == (
        "error: --replicas, --address: for Ray; --local is one process without it, leave one out\n"
    )


@pytest.mark.skipif(gpu_is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_in_one_sentence(packed):
    options = ["--model", f"numeric={packed}", "--port", "0", "--jobs-port", "0", "--device", "cuda"]
    code, out, err = ended(["serve", "--local", *options])
    assert (code, out) == (5, "")
    assert err.splitlines()[-1].startswith("error: device cuda was asked for, but CUDA finds no GPU")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "at least one model"),
        (["--model", "numeric"], "NAME=BUNDLE"),
        (["--model", "numeric=/nowhere"], "/nowhere"),
        (["--model", "a/b=/nowhere"], "models"),
        (["/nowhere.yaml"], "/nowhere.yaml"),
        (["--model", "numeric=/nowhere", "--port", "70000"], "$.serve.port"),
        (["--model", "numeric=/nowhere", "--replicas", "0"], "$.serve.replicas"),
        (["--model", "numeric=/nowhere", "--device", "gpu"], "$.serve.device"),
    ],
)
def test_a_wrong_call_is_said_in_one_sentence(arguments, words):
    code, out, err = ended(["serve", *arguments])
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1
