"""Serving an app on a listener, and ending without losing a request."""

import asyncio
import gc
import logging
import socket
import sys
import warnings
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.server import ServerState

from engine.config import Serve
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.busy_polling import BusyPolling
from engine.realtime.serving.connection import Connection
from engine.realtime.serving.heads import KnownHeads
from engine.realtime.serving.listener import BACKLOG

if TYPE_CHECKING:
    from engine.realtime.grpc.server import GrpcServer

log = logging.getLogger(__name__)

IDLE_GRACE_S = 2.0
"""How long a draining server waits for an idle connection to ask once more and be told to close."""
SWEEP_S = 1.0
POLL_S = 0.02
YOUNG_OBJECTS = 10_000
"""So many new objects before the garbage collector looks for circles among them. Python's 700 are those of
the requests of one turn of the loop: most still live, and are walked for nothing."""
SWITCH_S = 0.0005
"""A thread that comes back from a kernel waits no longer than this for the interpreter."""


class Server:
    """uvicorn's HTTP on a listener of ours, within the running event loop.

    Args:
        app: Answers.
        listener: Bound and listening; it is the server's from now on.
        settings: Timeouts.

    Attributes:
        polling: Keeps the loop awake for clients that come back at once.
    """

    def __init__(self, app: ScoringApp, listener: socket.socket, settings: Serve) -> None:
        self._app = app
        self._listener = listener
        self._settings = settings
        self._state = ServerState()
        self._heads = KnownHeads()
        self.polling = BusyPolling(asyncio.get_running_loop())
        self._server: asyncio.AbstractServer | None = None
        self.grpc: GrpcServer | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._config = Config(
            app,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="error",  # its warnings tell of requests that are no HTTP, as the access log does
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]
        )
        self._config.load()

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def connections(self) -> list[Connection]:
        """Those open now."""
        return [one for one in self._state.connections if isinstance(one, Connection)]

    def sweep(self, now_s: float) -> None:
        """End connections whose request does not come in time."""
        for connection in self.connections:
            connection.close_if_stuck(now_s)

    async def start(self) -> None:
        """Accept connections from now on."""
        sys.setswitchinterval(SWITCH_S)
        # What is loaded by now stays: a full collection need not walk it again, which takes 100 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        # By rule a number beyond its type is infinite; to turn the warning off for each request costs 1 µs.
        warnings.filterwarnings("ignore", "overflow encountered in cast", RuntimeWarning)
        loop = asyncio.get_running_loop()
        # A duplicate, so that the queue behind the listener outlives the end of accepting.
        self._server = await loop.create_server(self._connection, sock=self._listener.dup(), backlog=BACKLOG)
        self._sweeper = loop.create_task(self._sweep())
        if self._settings.grpc_port is not None:
            await self._start_grpc()

    async def drain(self) -> None:
        """Answer everything that is under way or waits to be accepted, then end.

        Every answer closes its connection from now on. Idle connections have ``IDLE_GRACE_S`` for one
        more request, requests under way ``drain_s``. A second call returns at once.
        """
        self._app.draining = True
        if self._listener.fileno() == -1:
            return
        if self._server is not None:
            self._server.close()
        await self._accept_the_rest()
        self._listener.close()
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + self._settings.drain_s
        ending = loop.create_task(self.grpc.drain()) if self.grpc is not None else None
        await self._until_closed(min(ends_s, loop.time() + IDLE_GRACE_S))
        for connection in self.connections:
            connection.shutdown()
        await self._until_closed(ends_s)
        if ending is not None:
            await ending
        for task in list(self._state.tasks):
            task.cancel()
        for connection in self.connections:
            connection.transport.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.sleep(0)

    async def _start_grpc(self) -> None:
        from engine.realtime.grpc.server import GrpcServer  # costs a tenth of a second

        shared = bool(self._listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
        self.grpc = GrpcServer(self._app, self._settings, shared=shared)
        await self.grpc.start()

    def _connection(self) -> Connection:
        loop = asyncio.get_running_loop()
        return Connection(self._config, self._state, loop, self._app, self._heads, self.polling)

    async def _accept_the_rest(self) -> None:
        """Closing a shared listener resets what waits in its queue; take it first."""
        loop = asyncio.get_running_loop()
        while (accepted := self._next_accepted()) is not None:
            accepted.setblocking(False)
            try:
                await loop.connect_accepted_socket(self._connection, accepted)
            except OSError:  # its client is gone already
                accepted.close()

    def _next_accepted(self) -> socket.socket | None:
        """A connection that waits; None where there is none, or none can be had."""
        while True:
            try:
                return self._listener.accept()[0]
            except BlockingIOError:
                return None
            except ConnectionAbortedError:
                continue
            except OSError as error:
                log.warning("what waited for the engine at its end was not accepted: %s", error)
                return None

    async def _until_closed(self, until_s: float) -> None:
        loop = asyncio.get_running_loop()
        while self._state.connections and loop.time() < until_s:
            await asyncio.sleep(POLL_S)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(loop.time())
            self._app.settle_counts()
