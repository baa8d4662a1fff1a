"""The access log: one JSON object per answered request on stderr, never a row's values."""

import sys
import time
from typing import TextIO

import msgspec


class AccessLog:
    """Writes ``{"time", "method", "path", "status", "seconds", "bytes"}``; the path without its query."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def write(self, method: str, path: str, status: int, seconds: float, n_bytes: int) -> None:
        """One request was answered."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "method": method,
            "path": path,
            "status": status,
            "seconds": round(seconds, 6),
            "bytes": n_bytes,
        }
        print(msgspec.json.encode(line).decode(), file=self._stream or sys.stderr)
