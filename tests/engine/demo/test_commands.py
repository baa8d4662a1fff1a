"""Commands run as a person would run them, and none is left behind."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine.demo.commands import running, tandem, wait_until_ready
from engine.errors import Failed

CALLER = """
import os, pathlib, signal, sys
from engine.demo.commands import running, wait_until_ready
bundle, log = sys.argv[1], pathlib.Path(sys.argv[2])
verb = ("serve", "--model", f"late={bundle}", "--local", "--port", "0", "--jobs-port", "0")
with running(*verb, log=log) as process:
    wait_until_ready(process, lambda: b"http://" in log.read_bytes(), log, limit_s=60)
    print(process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
"""
"""Is told to end while an engine of its own runs."""


def test_a_verb_that_fails_ends_the_demonstration(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"expected success of tandem inspect .*nothing, got exit code 2"):
        tandem("inspect", str(tmp_path / "nothing"))


def test_a_process_is_gone_after_its_block(tmp_path: Path) -> None:
    with running("--help", log=tmp_path / "log") as process:
        pass
    assert process.poll() is not None


def test_a_process_is_gone_after_its_caller_was_told_to_end(late_bundle: Path, tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", CALLER, str(late_bundle), str(tmp_path / "log")],
        capture_output=True,
        timeout=120,
    )
    assert said.returncode == 128 + signal.SIGTERM
    assert not psutil.pid_exists(int(said.stdout))


def test_an_engine_that_ends_before_it_is_ready_is_quoted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running("inspect", str(tmp_path / "nothing"), log=log) as process:
        process.wait(60)
        with pytest.raises(Failed, match=r"did not; its last words:\n.*nothing"):
            wait_until_ready(process, lambda: False, log, limit_s=60)


def test_an_engine_that_takes_too_long_is_told_from_one_that_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        running("serve", log=log) as process,
        pytest.raises(Failed, match=r"to start within 0 s, it did not"),
    ):
        wait_until_ready(process, lambda: False, log, limit_s=0)
