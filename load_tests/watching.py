"""Processor and memory of the machine and the engine during a run, seen from a process of its own."""

import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection

import msgspec
import psutil

EVERY_S = 0.5
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class MachineMoment(msgspec.Struct, frozen=True):
    """One look at the machine.

    Attributes:
        at_s: Seconds since the watching began.
        machine: Share of all cores in use.
        engine_cores: Cores that the processes listening on the engine's port used; ``None`` where
            the engine runs elsewhere.
        engine_bytes: Their resident memory.
    """

    at_s: float
    machine: float
    engine_cores: float | None
    engine_bytes: int | None


class Watch:
    """Moments seen so far; complete when the ``with`` block of ``watching`` has ended."""

    def __init__(self) -> None:
        self.moments: tuple[MachineMoment, ...] = ()


@contextmanager
def watching(host: str, port: int) -> Iterator[Watch]:
    """Look at the machine twice a second while the block runs."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    # The generator must not share its interpreter with anything that wakes up.
    process = spawn.Process(target=_watch, args=(port if host in LOOPBACK else 0, theirs), daemon=True)
    # Ctrl-C is for the one that waits for it: the watcher is told through its pipe. To start the
    # tracker meanwhile would let the signal in again.
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    theirs.close()
    watch = Watch()
    try:
        yield watch
    finally:
        with suppress(EOFError, OSError):  # it was killed
            ours.send(None)
            if ours.poll(5.0):
                watch.moments = tuple(ours.recv())
        process.join(5.0)


def listeners(port: int) -> list[psutil.Process]:
    """Processes of this machine that listen on a TCP port, as far as we may see them."""
    try:
        sockets = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return []
    found = {at.pid for at in sockets if at.status == psutil.CONN_LISTEN and at.laddr.port == port and at.pid}
    processes = []
    for pid in sorted(found):
        with suppress(psutil.NoSuchProcess):  # it has ended since
            processes.append(psutil.Process(pid))
    return processes


def _watch(port: int, pipe: "Connection[list[MachineMoment], None]") -> None:
    """Look until something comes through the pipe, or its other end is gone with its process."""
    engine = listeners(port) if port else []
    moments: list[MachineMoment] = []
    psutil.cpu_percent()
    used, before = cpu_seconds(engine), time.monotonic()
    started = before
    while not pipe.poll(EVERY_S):
        now_used, now = cpu_seconds(engine), time.monotonic()
        cores = (now_used - used) / (now - before) if engine else None
        memory = sum(_memory(process) for process in engine) if engine else None
        moments.append(MachineMoment(now - started, psutil.cpu_percent() / 100, cores, memory))
        used, before = now_used, now
    with suppress(OSError):
        pipe.send(moments)


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Processor time that processes used so far, with the kernel's on their behalf; 0 of those gone."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
