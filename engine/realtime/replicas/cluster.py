"""The engine on Ray, from nothing to answers on both lanes and back to nothing.

Whatever was started here is stopped again, in the opposite order, however the body ends. A
cluster or a Serve that was there before stays.
"""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from engine import ray_compat
from engine.config import Config, Serve
from engine.errors import Failed
from engine.realtime.replicas import pool
from engine.realtime.replicas.revisions import Revisions
from engine.realtime.serving.listener import ensure_free

Tell = Callable[[str], None]
"""Is told, in a few words, what is being waited for."""

FIRST_ANSWER_S = 10.0
"""How long a lane may take from ready replicas to its first answer."""
SHUTDOWN_S = 20.0
"""How long Ray Serve may take to end once the pool is gone."""


@dataclass(frozen=True, slots=True)
class RunningPool:
    """A pool that answers on both lanes.

    Attributes:
        direct, ingress: Base URLs without a slash at the end.
        revisions: The models as they were deployed.
        settings: As in the config, with the ports chosen.
    """

    direct: str
    ingress: str
    revisions: Revisions
    settings: Serve


@contextmanager
def running(
    config: Config, *, address: str | None = None, tell: Tell = print, jobs_port: int | None = None
) -> Iterator[RunningPool]:
    """Serve the models of a config on Ray for the duration of the body.

    Args:
        config: Its ``models`` and ``serve`` sections; a port of 0 is chosen here.
        address: A Ray cluster to use; without one (or ``RAY_ADDRESS``), one is started here,
            unless this process is connected to one already.
        tell: Called before each wait.
        jobs_port: Where batch jobs are taken beside it, for the documents to say.

    Raises ``InvalidBundle``, ``InvalidConfig`` or ``PortTaken`` before Ray is started, and
    ``Failed`` if Ray or the replicas do not start.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    address = None if address == "local" else address
    revisions = pool.revisions_of(config)
    settings = with_ports(config.serve, ingress=address is None)
    with ExitStack() as undo:
        tell("starting Ray")
        compiling = _compile_ahead(revisions, undo)
        _connect(address, undo)
        tell("starting the ingress")
        ingress, own_serve = _start_serve(settings, undo)
        tell(f"starting {_count(settings.replicas, 'replica')}: load, compile, warm up")
        compiling.wait()
        undo.callback(_within, pool.longest_drain_s(settings), pool.remove)
        pool.deploy(revisions, settings, jobs_port=jobs_port)
        if own_serve:
            # Undone first: once the pool is gone, HAProxy would answer 404.
            undo.callback(ray_compat.soft_stop_haproxy, settings.drain_s)
        direct = f"http://{settings.host}:{settings.port}"
        tell("waiting for the first answers")
        wait_for_answer(direct)
        wait_for_answer(ingress)
        yield RunningPool(direct, ingress, revisions, settings)


def with_ports(settings: Serve, *, ingress: bool) -> Serve:
    """The settings with each port chosen and free, the ingress's if it is asked for."""
    chosen: dict[str, Any] = {"port": free_port(settings.host, settings.port)}
    if settings.grpc_port is not None:
        chosen["grpc_port"] = free_port(settings.host, settings.grpc_port, "--grpc-port")
    if ingress:
        chosen["ingress_port"] = free_port(settings.host, settings.ingress_port, "--ingress-port")
    return msgspec.structs.replace(settings, **chosen)


def cluster_address() -> str:
    """Where other processes reach the Ray cluster that this one is connected to."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def wait_for_answer(url: str, within_s: float = FIRST_ANSWER_S) -> None:
    """Return when the engine at ``url`` says that it is ready; raises ``Failed`` when it does not."""
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=within_s):  # noqa: S310
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if time.monotonic() > deadline_s:
                raise Failed(
                    f"expected an answer from {url} within {within_s:.0f} s, got: {error}"
                ) from error
            time.sleep(0.05)


def free_port(host: str, port: int, option: str = "--port") -> int:
    """The port, or a free one for 0; raises ``PortTaken`` if somebody listens on it."""
    if port:
        ensure_free(host, port, option)
        return port
    with socket.create_server((host, 0)) as probe:
        chosen: int = probe.getsockname()[1]
    return chosen


def _connect(address: str | None, undo: ExitStack) -> None:
    ray_compat.prepare(address)
    import ray

    if ray.is_initialized():
        return
    undo.callback(ray.shutdown)
    try:
        if address is None:
            ray.init(**ray_compat.local_cluster_options())
        else:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"answer at {address} (if it wants a token, set RAY_AUTH_MODE=token)" if address else "start"
        raise Failed(f"Ray did not {where}: {error}") from error


def _compile_ahead(revisions: Revisions, undo: ExitStack) -> "subprocess.Popen[bytes]":
    """Bring the models' kernels into the cache on disk while Ray starts.

    It costs a first start seconds less and spares many replicas compiling the same. A model that
    cannot be loaded is left for its replica to say.
    """
    code = "import os, sys; os.nice(5); from engine.scorer import Scorer\n"
    code += "for path in sys.argv[1:]: Scorer.load(path).warm_up()"
    paths = [model.bundle for model in revisions.models.values()]
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, "-c", code, *paths], stdout=nowhere, stderr=nowhere)
    undo.enter_context(process)
    undo.callback(process.kill)
    return process


def _start_serve(settings: Serve, undo: ExitStack) -> tuple[str, bool]:
    """Start Ray Serve where it does not run yet; the ingress's base URL, and whether it is ours."""
    from ray import serve
    from ray.serve.config import HTTPOptions

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if serve.status().proxies:
        return ray_compat.ingress_url(), False
    port = free_port(settings.host, settings.ingress_port, "--ingress-port")
    undo.callback(_within, SHUTDOWN_S, ray_compat.shut_down_serve)
    serve.start(http_options=HTTPOptions(host=settings.host, port=port))
    return f"http://{settings.host}:{port}", True


def _within(limit_s: float, work: Callable[[], None]) -> None:
    """Do the work, but go on after a time: a Ray that was killed never answers."""
    from ray.exceptions import RayError

    def quietly() -> None:
        with contextlib.suppress(RayError):  # what was to be ended has ended
            work()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    thread.join(limit_s)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
