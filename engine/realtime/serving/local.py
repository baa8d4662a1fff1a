"""``tandem serve --local``: the app in this process, without Ray."""

import asyncio
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import uvloop

from engine.config import Config, Device, Model
from engine.errors import InvalidConfig
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.listener import ensure_free, open_listener
from engine.realtime.serving.server import Server
from engine.scorer import Scorer


def serve_local(config: Config) -> None:
    """Serve the models of a config until Ctrl-C or SIGTERM, then drain.

    Raises:
        InvalidConfig: No models.
        InvalidBundle: A bundle is not intact.
        Failed: The device is not there.
        PortTaken: Somebody listens on the port.
    """
    started_s = time.perf_counter()
    if not config.models:
        raise InvalidConfig("expected at least one model to serve, got none; give --model NAME=BUNDLE")
    for port in (config.serve.port, config.serve.grpc_port or 0):
        ensure_free(config.serve.host, port)
    device = config.serve.device
    scorers = {name: _load(name, model, device) for name, model in config.models.items()}
    uvloop.run(_serve(config, scorers, started_s))


def _load(name: str, model: Model, device: Device) -> Scorer:
    _say(f"loading model '{name}' from {Path(model.bundle)}")
    scorer = Scorer.load(model.bundle, device=device)
    _say(f"warming up {scorer.label}")
    scorer.warm_up()
    return scorer


async def _serve(config: Config, scorers: Mapping[str, Scorer], started_s: float) -> None:
    settings = config.serve
    slos = {name: model.slo for name, model in config.models.items() if model.slo is not None}
    app = ScoringApp(scorers, settings, slos)
    server = Server(app, open_listener(settings.host, settings.port, shared=False), settings)
    await server.start()
    url = f"http://{settings.host}:{server.port}"
    if server.grpc is not None:
        _say(f"gRPC on {settings.host}:{server.grpc.port}")
    print(url, flush=True)  # noqa: T201 the result of the command
    _say(f"ready after {time.perf_counter() - started_s:.1f} s; {url}/v2/docs says how to ask; Ctrl-C ends")
    await _told_to_stop()
    _say(f"draining: {app.in_flight} requests under way")
    await server.drain()
    await app.close()
    _say("stopped")


async def _told_to_stop() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 progress
