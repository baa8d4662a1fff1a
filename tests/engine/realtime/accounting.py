"""Clients that account for every request they make: the keep-alive kind that a pool promises to serve."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

PACE_S = 0.002
"""Between two requests of a client, so that a few of them leave the machine to the engine."""


@dataclass
class Account:
    """What became of the requests of one client.

    Attributes:
        outcomes: ``answered``; ``resent`` (the connection had been closed while idle, so the request was
            sent again on a new one); ``refused`` (nobody listened); ``lost`` (everything else).
        losses: When a request was lost (monotonic seconds), and how.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    losses: list[tuple[float, str]] = field(default_factory=list)

    @classmethod
    def sum(cls, accounts: Iterable["Account"]) -> "Account":
        total = cls()
        for account in accounts:
            total.outcomes += account.outcomes
            total.losses += account.losses
        return total


class Client(threading.Thread):
    """Sends one request after the other on kept connections until stopped.

    It honours ``Connection: close`` and resends a request whose kept connection turns out to be closed
    before a byte of the answer came; nothing else is forgiven.
    """

    def __init__(self, port: int, path: str, body: bytes, expected: bytes) -> None:
        super().__init__(daemon=True)
        self._address = ("127.0.0.1", port)
        self._request = (path, body, expected)
        self._stopped = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self.account = Account()

    def run(self) -> None:
        while not self._stopped.wait(PACE_S):
            self.account.outcomes[self._once()] += 1
        if self._connection is not None:
            self._connection.close()

    def stop(self) -> Account:
        self._stopped.set()
        self.join(timeout=30)
        return self.account

    def _once(self) -> str:
        kept = self._connection is not None
        if self._connection is None:
            connection = http.client.HTTPConnection(*self._address, timeout=30)
            try:
                connection.connect()
            except ConnectionError:
                time.sleep(0.005)
                return "refused"
            self._connection = connection
        try:
            return self._exchange(self._connection)
        except (http.client.RemoteDisconnected, ConnectionError) as error:
            self._drop()
            return "resent" if kept else self._lost(f"{type(error).__name__} on a new connection")
        except (http.client.HTTPException, OSError) as error:
            self._drop()
            return self._lost(repr(error))

    def _exchange(self, connection: http.client.HTTPConnection) -> str:
        path, body, expected = self._request
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.will_close:
            self._drop()
        if answer.status == 200 and expected in content:
            return "answered"
        return self._lost(f"{answer.status} {content[:200]!r}")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _lost(self, how: str) -> str:
        self.account.losses.append((time.monotonic(), how))
        return "lost"
