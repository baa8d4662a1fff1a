"""The access log: one JSON object per answered request on stderr, never a row's values."""

import sys
import time
from typing import TextIO

import msgspec

from engine.realtime.doors.answers import Answer


class AccessLog:
    """Writes ``{"time", "method", "path", "status", "seconds", "bytes"}``; the path without its query."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def write(self, method: str, path: str, answer: Answer, seconds: float) -> None:
        """One request was answered, some seconds after it came."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "method": method,
            "path": path,
            "status": answer.status,
            "seconds": round(seconds, 6),
            "bytes": len(answer.body),
        }
        print(msgspec.json.encode(line).decode(), file=self._stream or sys.stderr)
