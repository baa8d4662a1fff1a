"""The jobs of an engine, served on a port of their own by a thread of the process that started it."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from engine.config import Jobs
from engine.errors import Failed
from engine.jobs.controller import Controller
from engine.jobs.routes import JobRoutes
from engine.realtime.serving.listener import ensure_free, open_listener

START_S = 10.0
CLOSE_S = 30.0


@contextmanager
def job_service(settings: Jobs, host: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Take jobs for the duration of the body; yields the base URL.

    Jobs that are under way at the end are stopped, and go on when an engine with the same
    directory starts.

    Args:
        settings: Port, directory and limits.
        host: Address to listen on.
        environment: Added to the environment of each job.

    Raises ``PortTaken`` or ``StorageFailed`` before anything is started.
    """
    ensure_free(host, settings.port, "--jobs-port")
    controller = Controller(
        Path(settings.directory).absolute(),
        max_running=settings.max_running,
        max_queued=settings.max_queued,
        environment=environment,
    )
    listener = open_listener(host, settings.port, shared=False, option="--jobs-port")
    app = JobRoutes(controller).app()
    config = uvicorn.Config(app, log_config=None, log_level="error", server_header=False, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="jobs", daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread)
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(CLOSE_S)


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    pause = threading.Event()
    for _ in range(int(START_S / 0.01)):
        if server.started:
            return
        if not thread.is_alive():
            break
        pause.wait(0.01)
    raise Failed("the job service did not start; the lines above say why")
