"""A small bundle, and an app that answers on a real socket with its loop in a thread."""

import asyncio
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from engine.bundle import Link, Manifest, Provenance, npz, write_bundle
from engine.config import Serve
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.listener import open_listener
from engine.realtime.serving.server import Server
from engine.schema import Feature, Schema

NUMERIC = tuple(Feature(f"f{index}", "float32") for index in range(4))
MIXED = (
    Feature("distance", "float64"),
    Feature("carrier", "category", categories=("AA", "UA", "DL")),
    Feature("stops", "int8"),
    Feature("night", "bool", required=True),
)


def bundle(out: Path, name: str, features: tuple[Feature, ...], scale: float = 1.0) -> Path:
    """A linear model: the score is the sum over features of (place + 1) * scale * value."""
    block = "float32" if all(feature.type == "float32" for feature in features) else "float64"
    coefficients = scale * np.arange(1.0, len(features) + 1)[None, :]
    files = {"linear.npz": npz({"coef": coefficients, "intercept": np.zeros(1)})}
    manifest = Manifest(name, "linear", Schema(features, block), Link(), Provenance("sklearn"))
    return write_bundle(manifest, files, out)


@dataclass
class Reply:
    """An answer as it came: headers in lower case, the JSON if it is some."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Lane:
    """A way to a running engine: a port of this machine."""

    port: int

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request on a connection of its own; anything but bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes | memoryview) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, data, dict(headers or {}))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, names, answer.read())
        finally:
            connection.close()


@dataclass
class Engine(Lane):
    """A running app, its loop in a thread."""

    app: ScoringApp
    server: Server
    loop: asyncio.AbstractEventLoop

    def run(self, work: Any) -> Any:
        """Run a coroutine on the engine's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)


def start(app_of: Callable[[], ScoringApp], settings: Serve, *, shared: bool = False) -> Iterator[Engine]:
    """An engine on a free port, drained at the end; ``app_of()`` makes its app on the loop.

    ``shared`` engines may have one gRPC port, as the replicas of a node do.
    """
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def build() -> Engine:
        app = app_of()
        server = Server(app, open_listener("127.0.0.1", 0, shared=shared), settings)
        await server.start()
        return Engine(server.port, app, server, loop)

    async def end(engine: Engine) -> None:
        await engine.server.drain()
        await engine.app.close()

    engine = asyncio.run_coroutine_threadsafe(build(), loop).result(30)
    try:
        yield engine
    finally:
        asyncio.run_coroutine_threadsafe(end(engine), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
