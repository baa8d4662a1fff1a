"""The access log: one JSON object per answered request on stderr, never a row's values."""

import sys
import time
from typing import TextIO

import msgspec

from engine.realtime.doors.answers import Answer


class AccessLog:
    """Writes ``{"time", "method", "path", "status", "seconds", "bytes"}``; the path without its query.

    Of gRPC the calls for scores, their method ``GRPC`` and their status the one that HTTP has for it.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._second = -1
        self._time = ""

    def write(self, method: str, path: str, answer: Answer, seconds: float) -> None:
        """One request was answered, some seconds after it came."""
        line = {
            "time": self._now(),
            "method": method,
            "path": path,
            "status": answer.status,
            "seconds": round(seconds, 6),
            "bytes": len(answer.body),
        }
        (self._stream or sys.stderr).write(msgspec.json.encode(line).decode() + "\n")

    def _now(self) -> str:
        """The time in words, which are the same for a second."""
        second = int(time.time())
        if second != self._second:
            self._second, self._time = second, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
        return self._time
