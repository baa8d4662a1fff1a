"""A load that is told to end, or killed: a sentence and an exit code if it can, and nobody left behind."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.waiting import wait_until

ASK = [sys.executable, "-m", "engine.cli", "load"]
SENTENCE = "interrupted; a run that did not end leaves no result\n"


def starting_locust(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes below one, as soon as Locust is among them and imports its modules."""
    below = psutil.Process(process.pid).children(recursive=True)
    for child in below:
        if "locust" in child.cmdline() and any("gevent" in area.path for area in child.memory_maps()):
            return below
    return []


@pytest.mark.parametrize(
    ("end", "number", "code", "said"),
    [
        (os.killpg, signal.SIGINT, 130, SENTENCE),  # as a terminal does
        (os.kill, signal.SIGTERM, 128 + signal.SIGTERM, ""),
        (os.kill, signal.SIGHUP, 128 + signal.SIGHUP, ""),
    ],
)
def test_a_load_that_is_told_to_end_takes_locust_with_it(
    serving: Any, sample: Path, end: Any, number: int, code: int, said: str
) -> None:
    server = serving(lambda path, body: (200, b'{"scores": [0.5]}'))
    load = subprocess.Popen(
        [*ASK, server.url, "--sample", str(sample), "--duration", "60s", "--processes", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # which nohup has ignored
    )  # fmt: skip
    below = wait_until(lambda: starting_locust(load))
    end(load.pid, number)
    out, err = load.communicate(timeout=60)
    assert (load.returncode, out, err) == (code, "", said)
    wait_until(lambda: not any(child.is_running() for child in below), within_s=10)


@pytest.mark.parametrize("is_running", [False, True])
def test_locust_ends_soon_after_a_load_that_was_killed(serving: Any, sample: Path, is_running: bool) -> None:
    asked = threading.Event()
    server = serving(lambda path, body: (asked.set(), (200, b'{"scores": [0.5]}'))[1])
    load = subprocess.Popen(
        [*ASK, server.url, "--sample", str(sample), "--duration", "60s", "--processes", "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    below = wait_until(lambda: starting_locust(load))
    if is_running:
        assert asked.wait(60)
        below = psutil.Process(load.pid).children(recursive=True)
    load.kill()
    load.wait()
    wait_until(lambda: not any(child.is_running() for child in below), within_s=20)
