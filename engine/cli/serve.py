"""``tandem serve``: answer requests, on Ray or in this process alone."""

import queue
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from engine.config import Jobs, Serve

if TYPE_CHECKING:
    from engine.config import Config

SERVE = Serve()
"""What holds where neither an option nor a config file says anything."""


def serve(
    config: Annotated[
        Path | None, typer.Argument(help="A YAML config; configs/example.yaml lists its keys.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="NAME=BUNDLE, once per model.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default=SERVE.host)] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of the direct lane; 0 for any.", show_default=str(SERVE.port))
    ] = None,
    ingress_port: Annotated[
        int | None,
        typer.Option(help="Port of Ray Serve's ingress; 0 for any.", show_default=str(SERVE.ingress_port)),
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="Port for gRPC, closed if not given; 0 for any.")
    ] = None,
    jobs_port: Annotated[
        int | None,
        typer.Option(help="Port for batch jobs (tandem submit); 0 for any.", show_default=str(Jobs().port)),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(help="Scoring processes, at most one per core.", show_default=str(SERVE.replicas)),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="bundle (what it was packed for), cpu, cuda (a GPU) or auto (a GPU where it is faster).",
            show_default=SERVE.device,
        ),
    ] = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster to use instead of an own one.")] = None,
    local: Annotated[bool, typer.Option("--local", help="One process, without Ray.")] = False,
) -> None:
    """Serve models over HTTP: Open Inference Protocol v2, and JSON rows for people with curl.

    SIGHUP reads the config again and swaps every model whose bundle is another one now;
    a bundle may be a symbolic link.
    """
    if local:
        _refuse_rays({"--replicas": replicas, "--ingress-port": ingress_port, "--address": address})
    options: dict[str, object] = {
        "host": host,
        "port": port,
        "ingress_port": ingress_port,
        "grpc_port": grpc_port,
        "replicas": replicas,
        "device": device,
    }

    def read() -> "Config":
        return _config(config, model or [], options, jobs_port)

    if local:
        _serve_here(read)
    else:
        _serve_on_ray(read, address)


def _refuse_rays(options: Mapping[str, object]) -> None:
    from engine.errors import InvalidConfig

    if given := [name for name, value in options.items() if value is not None]:
        raise InvalidConfig(f"{', '.join(given)}: for Ray; --local is one process without it, leave one out")


def _config(
    path: Path | None, models: list[str], options: Mapping[str, object], jobs_port: int | None
) -> "Config":
    """The config file with the options on top; raises ``InvalidConfig``."""
    import msgspec

    from engine.config import Config, in_words
    from engine.config_file import read_config
    from engine.errors import InvalidConfig

    merged = msgspec.to_builtins(read_config(path) if path else Config())
    merged["models"] |= dict(_named(model) for model in models)
    merged["serve"] |= {name: value for name, value in options.items() if value is not None}
    merged["jobs"] |= {} if jobs_port is None else {"port": jobs_port}
    try:
        return msgspec.convert(merged, Config)
    except msgspec.ValidationError as error:
        raise InvalidConfig(in_words(error, Config)) from error


def _named(model: str) -> tuple[str, dict[str, str]]:
    from engine.errors import InvalidConfig

    name, separator, bundle = model.partition("=")
    if not (name and separator and bundle):
        raise InvalidConfig(f"expected --model NAME=BUNDLE, got '{model}'")
    return name, {"bundle": bundle}


def _serve_here(read: "Callable[[], Config]") -> None:
    from urllib.parse import urlsplit

    from engine.jobs.service import job_service
    from engine.realtime.serving.local import serve_local

    config = read()
    with job_service(config.jobs, config.serve.host, {}) as jobs:
        print(f"taking batch jobs at {jobs}", file=sys.stderr)
        serve_local(config, read, jobs_port=urlsplit(jobs).port)


def _serve_on_ray(read: "Callable[[], Config]", address: str | None) -> None:
    import msgspec

    from engine.jobs.service import job_service
    from engine.realtime.replicas.cluster import cluster_address, free_port, running

    started_s = time.monotonic()
    config = read()
    port = free_port(config.serve.host, config.jobs.port, "--jobs-port")
    settings = msgspec.structs.replace(config.jobs, port=port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        _narration() as tell,
        running(config, address=address, tell=tell, jobs_port=port) as pool,
        job_service(settings, config.serve.host, {"RAY_ADDRESS": cluster_address()}) as jobs,
    ):
        tell("")
        print(f"ready after {time.monotonic() - started_s:.1f} s")
        print(f"  direct lane  {pool.direct}\n  Ray ingress  {pool.ingress}")
        if pool.settings.grpc_port is not None:
            print(f"  gRPC         {pool.settings.host}:{pool.settings.grpc_port}")
        print(f"  batch jobs   {jobs}")
        print(f"  try          {_example(config, pool.direct)}\n  stop         Ctrl-C", flush=True)
        _until_told_to_stop(read)
        print("draining; Ctrl-C again stops at once", file=sys.stderr)


def _until_told_to_stop(read: "Callable[[], Config]") -> None:
    """Return on SIGINT or SIGTERM, the next of which interrupts what follows; reload on SIGHUP."""
    told: queue.SimpleQueue[int] = queue.SimpleQueue()

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        told.put(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    while told.get() == signal.SIGHUP:
        _reload(read)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _reload(read: "Callable[[], Config]") -> None:
    """Swap what the config has changed; any error is said, and the engine goes on as it was."""
    import logging

    from engine.errors import TandemError
    from engine.realtime.replicas import pool

    try:
        reloaded = pool.follow(read())
    except TandemError as error:
        print(f"not reloaded: {error}", file=sys.stderr, flush=True)
    except Exception:
        logging.getLogger(__name__).exception("a reload failed")
        print(
            "not reloaded: a bug in the engine; the lines above have the details", file=sys.stderr, flush=True
        )
    else:
        print(f"reloaded: {', '.join(reloaded) or 'nothing, no bundle changed'}", file=sys.stderr, flush=True)


@contextmanager
def _narration() -> Iterator[Callable[[str], None]]:
    """A function that shows what is waited for: a spinner for people, lines for logs; "" for nothing."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda doing: print(doing, file=sys.stderr, flush=True) if doing else None
        return
    with console.status("") as status:

        def show(doing: str) -> None:
            status.update(doing)
            status.start() if doing else status.stop()

        yield show


def _example(config: "Config", url: str) -> str:
    """A command to copy that scores a row of the first model."""
    from engine.bundle import read_bundle
    from engine.realtime.doors.examples import curl_command, rows_example

    name, model = next(iter(config.models.items()))
    schema = read_bundle(model.bundle).manifest.schema
    return curl_command(f"{url}/v1/models/{name}/score", rows_example(schema))
