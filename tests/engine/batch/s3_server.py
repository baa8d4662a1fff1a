"""An S3 server in a process of its own: ``python -m tests.engine.batch.s3_server``, which prints its port.

It can kill a client around the n-th request by which that changes something. Of such a request there
are two moments: 2n - 1 is before the change, 2n after it, when the client has not heard of it yet.
"""

import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

CHANGES = {"PUT", "POST", "DELETE"}
KILL = "/_kill/"


class Store:
    """The server's WSGI application, with a path of its own to name the victim and the moment."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._victim, self._moments_left = 0, 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith(KILL):
            self._victim, self._moments_left = map(int, environ["PATH_INFO"].removeprefix(KILL).split("/"))
            start_response("204 No Content", [])
            return []
        changes = environ["REQUEST_METHOD"] in CHANGES
        if changes and self._kills():
            start_response("503 Service Unavailable", [])
            return []
        answer = list(self._app(environ, start_response))
        if changes:
            self._kills()
        return answer

    def _kills(self) -> bool:
        """Whether this moment is the victim's last."""
        with self._lock:
            self._moments_left -= 1
            if self._moments_left != 0:
                return False
        os.kill(self._victim, signal.SIGKILL)
        return True


@contextmanager
def running() -> Iterator[str]:
    """Host and port of a new server."""
    command = [sys.executable, "-m", "tests.engine.batch.s3_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


def die_at(endpoint: str, moment: int) -> None:
    """Have this process killed at a moment of its changes, counted from 1."""
    connection = http.client.HTTPConnection(endpoint)
    connection.request("POST", f"{KILL}{os.getpid()}/{moment}")
    assert connection.getresponse().status == http.HTTPStatus.NO_CONTENT
    connection.close()


def main() -> None:
    """Serve until the process is ended."""
    server = make_server("127.0.0.1", 0, Store(), threaded=True)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
