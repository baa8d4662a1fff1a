"""``tandem serve --local``: the app in this process, without Ray."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import uvloop

from engine.config import Config
from engine.errors import InvalidConfig, TandemError
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.listener import ensure_free, open_listener
from engine.realtime.serving.reloading import Loader
from engine.realtime.serving.server import Server
from engine.scorer import Scorer

log = logging.getLogger(__name__)


def serve_local(
    config: Config, read: Callable[[], Config] | None = None, *, jobs_port: int | None = None
) -> None:
    """Serve the models of a config until Ctrl-C or SIGTERM, then drain.

    On SIGHUP, models whose bundle is another one now are loaded beside those that serve, and swapped.

    Args:
        config: Its ``models`` and ``serve`` sections.
        read: Reads the config again on SIGHUP; without it, the same paths are looked at again.
        jobs_port: Where batch jobs are taken beside it, for the documents to say.

    Raises:
        InvalidConfig: No models.
        InvalidBundle: A bundle is not intact.
        Failed: The device is not there.
        PortTaken: Somebody listens on the port.
    """
    started_s = time.perf_counter()
    if not config.models:
        raise InvalidConfig("expected at least one model to serve, got none; give --model NAME=BUNDLE")
    ensure_free(config.serve.host, config.serve.port)
    ensure_free(config.serve.host, config.serve.grpc_port or 0, "--grpc-port")
    loader = Loader(config.models, _say, device=config.serve.device)
    scorers = loader.load_all()
    uvloop.run(_serve(config, loader, scorers, read or (lambda: config), jobs_port, started_s))


async def _serve(
    config: Config,
    loader: Loader,
    scorers: Mapping[str, Scorer],
    read: Callable[[], Config],
    jobs_port: int | None,
    started_s: float,
) -> None:
    settings = config.serve
    slos = {name: model.slo for name, model in config.models.items() if model.slo is not None}
    app = ScoringApp(scorers, settings, slos)
    app.reload = partial(loader.load_again, app)
    app.jobs_port = jobs_port
    server = Server(app, open_listener(settings.host, settings.port, shared=False), settings)
    await server.start()
    url = f"http://{settings.host}:{server.port}"
    if server.grpc is not None:
        _say(f"gRPC on {settings.host}:{server.grpc.port}")
    print(url, flush=True)  # noqa: T201 the result of the command
    _say(f"ready after {time.perf_counter() - started_s:.1f} s; {url}/v2/docs says how to ask; Ctrl-C ends")
    await _until_told_to_stop(partial(_reload, loader, app, read))
    _say(f"draining: {app.in_flight} requests under way")
    await server.drain()
    await app.close()
    _say("stopped")


async def _until_told_to_stop(reload: Callable[[], Awaitable[None]]) -> None:
    """Return on SIGINT or SIGTERM; reload on SIGHUP."""
    told: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, told.put_nowait, number)
    while await told.get() == signal.SIGHUP:
        await reload()
    for number in numbers:
        loop.remove_signal_handler(number)


async def _reload(loader: Loader, app: ScoringApp, read: Callable[[], Config]) -> None:
    """Swap what the config has changed; any error is said, and the engine goes on as it was."""
    try:
        reloaded = await loader.follow(app, read().models)
    except TandemError as error:
        _say(f"not reloaded: {error}")
    except Exception:
        log.exception("a reload failed")
        _say("not reloaded: a bug in the engine; the lines above have the details")
    else:
        _say(f"reloaded: {', '.join(reloaded) or 'nothing, no bundle changed'}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 progress
