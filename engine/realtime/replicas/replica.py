"""What runs in each Ray Serve replica: all models of the pool, one app, two lanes.

The replica listens itself on the pool's port (the direct lane) and hands the same app to Ray
Serve's ingress. Serve builds it, asks after its health and ends it, and need not see a request.
"""

import asyncio
import logging
import os
import time
from dataclasses import dataclass

from engine import ray_compat
from engine.bundle import DeviceChoice
from engine.config import Serve
from engine.errors import TandemError
from engine.realtime.replicas.pool import load_again
from engine.realtime.replicas.revisions import Revisions, stored
from engine.realtime.replicas.scaling import BusyFraction
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.listener import open_listener
from engine.realtime.serving.server import Server
from engine.scorer import Scorer

logger = logging.getLogger("tandem.replica")


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A replica at a moment: its process, the generation of its models, requests under way."""

    pid: int
    generation: int
    in_flight: int


class Replica:
    """One scoring process of a pool, in the shape that ``serve.ingress()`` wants.

    Args:
        revisions: The models as they were deployed; a later generation stored in the cluster wins.
        settings: The ``serve`` section of the config; its port is the pool's, never 0.
        pool: Name of the pool, under which its revisions are stored.
        jobs_port: Where batch jobs are taken beside the pool, if they are.
    """

    def __init__(self, revisions: Revisions, settings: Serve, pool: str, jobs_port: int | None) -> None:
        self._settings = settings
        self._pool = pool
        self._revisions = stored(pool) or revisions
        self._adopting = asyncio.Lock()
        self._server: Server | None = None
        self._busy = BusyFraction(time.monotonic(), time.process_time())
        device = settings.device
        scorers = {name: _warm(model.bundle, device) for name, model in self._revisions.models.items()}
        self._app = ScoringApp(scorers, settings, self._revisions.slos)
        self._app.reload = self._load_again
        self._app.jobs_port = jobs_port

    async def __serve_build_asgi_app__(self) -> ray_compat.Asgi:
        """Start listening; Serve calls this once, when the constructor is done."""
        listener = open_listener(self._settings.host, self._settings.port, shared=True)
        self._server = server = Server(self._app, listener, self._settings)
        await server.start()
        ray_compat.answer_with(self._app)
        return Drained(self._app, server)

    async def adopt(self, revisions: Revisions) -> int:
        """Load what is new in ``revisions`` beside what serves, then swap; returns the generation."""
        async with self._adopting:
            if revisions.generation > self._revisions.generation:
                for name, bundle in revisions.bundles_changed_since(self._revisions).items():
                    scorer = await asyncio.to_thread(_warm, bundle, self._settings.device)
                    await self._app.swap(name, scorer)
                self._revisions = revisions
        return self._revisions.generation

    async def _load_again(self, model: str) -> None:
        """Have every replica of the pool load what is at a model's path now; this one among them."""
        await asyncio.to_thread(load_again, model, name=self._pool)

    async def check_health(self) -> None:
        """Catch up with a reload that this replica missed; Serve calls it every second."""
        revisions = await asyncio.to_thread(stored, self._pool)
        if revisions is None:
            return
        try:
            await self.adopt(revisions)
        except Exception as error:
            # A replica that serves the revision before is better than none.
            is_bug = not isinstance(error, TandemError)
            logger.error("generation %s was not loaded: %s", revisions.generation, error, exc_info=is_bug)

    def status(self) -> ReplicaStatus:
        """What this replica is at."""
        return ReplicaStatus(os.getpid(), self._revisions.generation, self._app.in_flight)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What the scaling policy decides on."""
        used_s = time.process_time()
        if self._server is not None:
            used_s -= self._server.polling.used_s
        return {"busy": self._busy.since_last(time.monotonic(), used_s)}


class Drained:
    """The app as Serve sees it: the end of its lifespan is the moment to drain.

    An object, because uvicorn takes a bound method for an app of ASGI 2.
    """

    def __init__(self, app: ScoringApp, server: Server) -> None:
        self._app = app
        self._server = server

    async def __call__(
        self, scope: ray_compat.Message, receive: ray_compat.Receive, send: ray_compat.Send
    ) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._server.drain()
        await self._app.close()
        await send({"type": "lifespan.shutdown.complete"})


def _warm(bundle: str, device: DeviceChoice) -> Scorer:
    """A scorer that compiles nothing any more when the first request comes."""
    scorer = Scorer.load(bundle, device=device)
    scorer.warm_up()
    return scorer
