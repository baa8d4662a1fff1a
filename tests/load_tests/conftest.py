"""A small HTTP server with the engine's routes, whose answers a test chooses."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

Respond = Callable[[str, bytes], tuple[int, bytes]]
FEATURES = ("carrier", "distance")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024
    respond: Respond

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def answer(self, body: bytes) -> None:
        status, content = routes(self.path) or self.server.respond(self.path, body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        pass


def routes(path: str) -> tuple[int, bytes] | None:
    metadata = {"name": "late", "inputs": [{"name": name} for name in FEATURES]}
    known = {"/v2/repository/index": [{"name": "late"}], "/v2/models/late": metadata}
    if path in known:
        return 200, json.dumps(known[path]).encode()
    unknown = path.startswith(("/v2/models/", "/metrics"))
    return (404, b'{"error": "not found"}') if unknown else None


@pytest.fixture
def serving() -> Iterator[Callable[[Respond], Server]]:
    servers = []

    def start(respond: Respond) -> Server:
        server = Server(("127.0.0.1", 0), Handler)
        server.respond = respond
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    table = pl.DataFrame({"carrier": ["UA", None, "B6"], "distance": [719.0, None, 1400.0], "id": [1, 2, 3]})
    path = tmp_path / "sample.parquet"
    table.write_parquet(path)
    return path
