"""Runs ``tandem`` commands the way a person would, each in a process of its own."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.errors import Failed

STOP_S = 60.0
ENDINGS = (signal.SIGTERM, signal.SIGHUP)


def tandem(*arguments: str) -> None:
    """Run one verb to its end, its output on our stderr; raises ``Failed`` where it does not succeed."""
    show(arguments)
    finished = subprocess.run(_command(arguments), stdin=subprocess.DEVNULL, stdout=sys.stderr)
    if finished.returncode:
        raise Failed(f"expected success of {_text(arguments)}, got exit code {finished.returncode}")


@contextmanager
def running(*arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Keep a verb running inside the ``with`` block, its output in a file; interrupt it afterwards.

    A process that has not left a minute after the interrupt is killed with all it started. A SIGTERM
    or SIGHUP ends the block as well, so that none is left behind.
    """
    show(arguments)
    with ended_by_signals(), log.open("wb") as output:
        process = subprocess.Popen(
            _command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _stop(process)


def say(words: str) -> None:
    """Tell how the demonstration goes, on stderr."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def show(arguments: Sequence[str]) -> None:
    """Print a command on stderr as one would type it."""
    say(f"   $ {_text(arguments)}")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise ``SystemExit``; only the main thread can see to that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]  # as by nohup
    before = [signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in heard]
    try:
        yield
    finally:
        for number, handler in zip(heard, before, strict=True):
            signal.signal(number, handler)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(
    process: subprocess.Popen[bytes], is_ready: Callable[[], bool], log: Path, *, limit_s: float
) -> float:
    """Seconds until an engine answered; raises ``Failed`` with its last words where it never does."""
    started = time.monotonic()
    while not is_ready():
        left = process.poll() is not None
        if left or time.monotonic() - started > limit_s:
            within = "" if left else f" within {limit_s:g} s"
            words = "\n".join(log.read_text(errors="replace").strip().splitlines()[-8:])
            raise Failed(f"expected the engine to start{within}, it did not; its last words:\n{words}")
        time.sleep(0.1)
    return time.monotonic() - started


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "engine.cli", *arguments]


def _text(arguments: Sequence[str]) -> str:
    return f"tandem {shlex.join(arguments)}"
