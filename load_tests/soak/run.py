"""Runs a soak: the engine, the load, the events and the looks at it all, side by side on one clock."""

import asyncio
import collections
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from load_tests.server_view import read_metrics
from load_tests.soak.account import account_of, by_second
from load_tests.soak.answers import n_scores
from load_tests.soak.beside import JobRun, run_job, verified
from load_tests.soak.inputs import KINDS, Inputs, make_inputs, payloads
from load_tests.soak.looks import Moment, counted, in_flight, look_at
from load_tests.soak.result import Kill, Reload, Setting, Soak
from load_tests.soak.schedule import Event, plan_events
from load_tests.soak.serving import Engine, serving
from load_tests.soak.traffic import Traffic

EVERY_S = 1.0
REST_S = 10.0
"""After the load, the engine may take so long to have nothing in flight."""
BATCH_ROWS = 200_000
GONE_S = 10.0


@dataclass(slots=True)
class _Seen:
    """What has been seen so far."""

    moments: list[Moment] = field(default_factory=list)
    reloads: list[Reload] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    jobs: list[JobRun] = field(default_factory=list)
    family: set[psutil.Process] = field(default_factory=set)


def run_soak(setting: Setting, folder: Path) -> Soak:
    """Start an engine, soak it, stop it; what it writes lies in ``folder``.

    Raises:
        Failed: The engine did not start.
        NotFound: The package with the flights is not installed.
    """
    inputs = make_inputs(folder, BATCH_ROWS)
    local = not setting.n_replicas
    family: set[psutil.Process] = set()
    with serving(folder, inputs.bundles[0], local=local, n_replicas=setting.n_replicas) as engine:
        tell(f"soaking {engine.target.url} for {setting.duration_s:.0f} s; its log is {engine.log}")
        soak = asyncio.run(_soak(setting, engine, inputs, folder, family))
        tell("stopping the engine")
    return msgspec.structs.replace(soak, leftovers=tuple(_left(family)))


async def _soak(
    setting: Setting, engine: Engine, inputs: Inputs, folder: Path, family: set[psutil.Process]
) -> Soak:
    target = engine.target
    ports = {"http": target.port, "grpc": engine.grpc_port}
    requests = payloads(inputs.rows, target.host, target.port)
    traffic = Traffic(target.host, ports, requests, setting.rate, setting.n_users)
    seen, started = _Seen(family=family), time.monotonic()
    before = counted(await asyncio.to_thread(read_metrics, target)) or 0.0
    looking = asyncio.create_task(_look(engine, traffic, seen, started))
    events = plan_events(setting.duration_s, on_ray=engine.n_replicas > 0)
    async with asyncio.TaskGroup() as together:
        together.create_task(traffic.run(started, setting.duration_s))
        together.create_task(_disturb([e for e in events if e.what != "job"], engine, inputs, seen, started))
        together.create_task(
            _score([e for e in events if e.what == "job"], engine, inputs, folder, seen, started)
        )
    after = await _at_rest(engine)
    looking.cancel()
    account = account_of(traffic.log, [kill.at_s for kill in seen.kills])
    total = counted(await asyncio.to_thread(read_metrics, target))
    return Soak(
        setting=setting,
        account=account,
        by_kind=_by_kind(traffic),
        losses=tuple(f"{sent_s:.1f} s: {reason}" for sent_s, _, reason in traffic.log.losses),
        n_answers=max(map(len, traffic.answers.values()), default=0),
        n_scores=n_scores(requests, traffic.answers),
        seconds=by_second(traffic.log),
        moments=tuple(seen.moments),
        reloads=tuple(seen.reloads),
        kills=tuple(seen.kills),
        jobs=tuple(verified(job, inputs) for job in seen.jobs),
        in_flight_after=after,
        counted=None if total is None else total - before,
        is_whole=await asyncio.to_thread(engine.is_whole),
    )


async def _look(engine: Engine, traffic: Traffic, seen: _Seen, started: float) -> None:
    """Look at the engine once a second, until cancelled."""
    while True:
        at_s = time.monotonic() - started
        looks = await asyncio.to_thread(look_at, engine.process.pid)
        metrics = await asyncio.to_thread(read_metrics, engine.target)
        seen.moments.append(Moment(at_s, looks, in_flight(metrics), counted(metrics)))
        seen.family |= await asyncio.to_thread(_family, engine.process.pid)
        if len(seen.moments) % 10 == 0:
            tell(f"{at_s:6.0f} s  {traffic.log.n_sent:,} sent, {len(traffic.log.losses)} failed")
        await asyncio.sleep(max(0.0, EVERY_S - (time.monotonic() - started - at_s)))


async def _disturb(events: list[Event], engine: Engine, inputs: Inputs, seen: _Seen, started: float) -> None:
    """Reload and kill when it is time; one after the other, a late one at once."""
    for event in events:
        await asyncio.sleep(max(0.0, event.at_s - (time.monotonic() - started)))
        at_s = time.monotonic() - started
        if event.what == "reload":
            said = await engine.reload(inputs.bundles[(len(seen.reloads) + 1) % 2])
            took_s = time.monotonic() - started - at_s
            seen.reloads.append(Reload(at_s, took_s, said))
            tell(f"{at_s:6.0f} s  reload: {said} after {took_s:.1f} s")
            continue
        killed: list[tuple[float, int]] = []
        back_s = await engine.kill_replica(lambda pid: killed.append((time.monotonic() - started, pid)))  # noqa: B023
        for killed_s, pid in killed:
            seen.kills.append(Kill(killed_s, pid, back_s))
            tell(f"{killed_s:6.0f} s  killed replica {pid}; all back after {back_s or float('nan'):.1f} s")


async def _score(
    events: list[Event], engine: Engine, inputs: Inputs, folder: Path, seen: _Seen, started: float
) -> None:
    """Submit a batch job when it is time, and await it."""
    for event in events:
        await asyncio.sleep(max(0.0, event.at_s - (time.monotonic() - started)))
        output = folder / f"scores-{len(seen.jobs)}"
        job = await run_job(engine.jobs, inputs, output, on_ray=engine.n_replicas > 0, started=started)
        seen.jobs.append(job)
        tell(f"{job.ended_s:6.0f} s  batch job of {job.rows:,} rows: {job.fault or 'done'}")


async def _at_rest(engine: Engine) -> float | None:
    """The gauge of requests in flight once it is 0, or after a while."""
    until = time.monotonic() + REST_S
    while True:
        now = in_flight(await asyncio.to_thread(read_metrics, engine.target))
        if now == 0 or time.monotonic() > until:
            return now
        await asyncio.sleep(0.2)


def _by_kind(traffic: Traffic) -> dict[str, int]:
    found = collections.Counter(traffic.log.kind)
    return {name: found[kind] for kind, name in enumerate(KINDS)}


def _family(pid: int) -> set[psutil.Process]:
    try:
        server = psutil.Process(pid)
        return {server, *server.children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def _left(family: set[psutil.Process]) -> list[str]:
    """Processes of the engine that are still there a while after it has stopped."""
    until = time.monotonic() + GONE_S
    while (left := sorted(filter(None, map(_alive, family)))) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def _alive(process: psutil.Process) -> str:
    """``name (pid)`` while a process runs, else empty."""
    try:
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            return f"{process.name()} ({process.pid})"
    except psutil.NoSuchProcess:
        pass
    return ""


def tell(words: str) -> None:
    """Say how it goes, on stderr."""
    print(words, file=sys.stderr, flush=True)
