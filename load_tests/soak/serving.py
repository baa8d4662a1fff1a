"""The engine under test: a ``tandem serve`` of our own, which reloads and loses replicas as told."""

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.demo.commands import running, wait_until_ready
from load_tests.soak.inputs import MODEL
from load_tests.soak.looks import replicas_of
from load_tests.target import Target, parse_url
from load_tests.watching import listeners

START_S = 180.0
RELOAD_S = 60.0
RECOVER_S = 120.0
LANE = re.compile(r"^(?:  direct lane  )?(http://\S+)$", re.MULTILINE)
GRPC = re.compile(r"^(?:  gRPC         |gRPC on )(\S+)$", re.MULTILINE)
JOBS = re.compile(r"^(?:  batch jobs   |taking batch jobs at )(http://\S+)$", re.MULTILINE)
SLO_MS = 2000.0
"""Generous: this test asks for answers, not for speed."""


@dataclass(slots=True)
class Engine:
    """A running engine.

    Attributes:
        process: The command.
        log: Where it writes.
        bundle: The link that its config names.
        target: Its direct lane.
        grpc_port: Its port for gRPC, at the same host.
        jobs: URL of its job service.
        n_replicas: Replicas that should run; 0 without Ray.
    """

    process: "subprocess.Popen[bytes]"
    log: Path
    bundle: Path
    target: Target
    grpc_port: int
    jobs: str
    n_replicas: int

    async def reload(self, bundle: Path) -> str:
        """Point the config's link to another bundle and ask for a reload; what the engine said of it."""
        link_to(self.bundle, bundle)
        said = self._said()
        self.process.send_signal(signal.SIGHUP)
        if not await _within(RELOAD_S, lambda: len(self._said()) > len(said)):
            return f"nothing within {RELOAD_S:.0f} s"
        return self._said()[-1]

    async def kill_replica(self, at: Callable[[int], None]) -> float | None:
        """Kill a replica, its pid told ``at`` just before; seconds until all ran again, ``None`` if never."""
        before = await asyncio.to_thread(self._listening)
        victim = min(before, default=0)
        if not victim:
            return None
        at(victim)
        os.kill(victim, signal.SIGKILL)
        begun = time.monotonic()
        back = await _within(RECOVER_S, lambda: len(self._listening() - {victim}) >= self.n_replicas)
        return time.monotonic() - begun if back else None

    def is_whole(self) -> bool:
        """Whether the command and all replicas run."""
        return self.process.poll() is None and len(self._listening()) >= self.n_replicas

    def _listening(self) -> set[int]:
        """Replicas of ours that take requests, over HTTP and gRPC."""
        over_http, over_grpc = (
            {process.pid for process in listeners(port)} for port in (self.target.port, self.grpc_port)
        )
        return over_http & over_grpc & replicas_of(self.process.pid)

    def _said(self) -> list[str]:
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if line.startswith(("reloaded:", "not reloaded:"))]


@contextmanager
def serving(folder: Path, bundle: Path, *, local: bool, n_replicas: int) -> Iterator[Engine]:
    """An engine on free ports, ready to answer; stopped with all it started when the block ends.

    Raises:
        Failed: It did not start, or it was stopped and did not leave.
    """
    link, log = folder / "current", folder / "engine.log"
    link_to(link, bundle)
    ports = {"port": 0, "grpc_port": 0}
    ports |= {} if local else {"ingress_port": 0, "replicas": n_replicas}
    config = {
        "models": {MODEL: {"bundle": str(link)}},
        "serve": {**ports, "slo": {"p99_ms": SLO_MS}},
        "jobs": {"directory": str(folder / "jobs")},
    }
    path = folder / "soak.yaml"
    path.write_bytes(msgspec.yaml.encode(config))
    options = ["--jobs-port", "0", *(["--local"] if local else [])]
    with running("serve", str(path), *options, log=log) as process:
        wait_until_ready(process, lambda: bool(_found(LANE, log) and _found(JOBS, log)), log, limit_s=START_S)
        lane, over_grpc, jobs = _found(LANE, log), _found(GRPC, log), _found(JOBS, log)
        grpc_port = int(over_grpc.rpartition(":")[2])
        yield Engine(process, log, link, parse_url(lane), grpc_port, jobs, 0 if local else n_replicas)


def link_to(link: Path, bundle: Path) -> None:
    """Make a link point to a bundle, in one step."""
    fresh = link.with_suffix(".new")
    fresh.symlink_to(bundle.resolve())
    fresh.replace(link)


def _found(pattern: re.Pattern[str], log: Path) -> str:
    match = pattern.search(log.read_text(errors="replace"))
    return match[1] if match else ""


async def _within(limit_s: float, holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if await asyncio.to_thread(holds):
            return True
        await asyncio.sleep(0.2)
    return False
