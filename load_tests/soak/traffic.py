"""Mixed requests at a moderate Poisson rate, every one of them entered into a log.

Users share the rate; each has a connection of its own, with one request under way at most.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from load_tests.fast.http_answer import Answer, parse_answer
from load_tests.soak.account import Log

PATIENCE_S = 15.0
"""An answer that takes longer is given up."""
MAX_REQUESTS = 20_000_000
READ_BYTES = 1 << 17

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Traffic:
    """Load on one address.

    Attributes:
        host: Of the engine.
        port: Likewise.
        payloads: Whole HTTP requests with the index of their kind, sent in turn.
        rate: Requests a second, over all users.
        n_users: Connections.
        log: What became of the requests so far.
        answers: Request → the different bodies that answered it.
    """

    host: str
    port: int
    payloads: Sequence[tuple[int, bytes]]
    rate: float
    n_users: int
    log: Log = field(default_factory=Log)
    answers: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    _started: float = 0.0

    async def run(self, started: float, duration_s: float) -> None:
        """Send for some seconds and await the last answers; ``started`` is the log's zero, monotonic."""
        self._started = started
        end = self._now() + duration_s
        await asyncio.gather(*(self._user(random.Random(user), end) for user in range(self.n_users)))

    def _now(self) -> float:
        return time.monotonic() - self._started

    async def _user(self, chance: random.Random, end: float) -> None:
        connection: Connection | None = None
        due = self._now()
        while True:
            due += chance.expovariate(self.rate / self.n_users)
            if due > end or self.log.n_sent >= MAX_REQUESTS:
                break
            await asyncio.sleep(due - self._now())
            connection = await self._ask(connection)
        _close(connection)

    async def _ask(self, connection: Connection | None) -> Connection | None:
        """Send the next request and log its end; the connection, where it can be used again."""
        turn = self.log.n_sent % len(self.payloads)
        kind, payload = self.payloads[turn]
        self.log.n_sent += 1
        sent_s = self._now()
        try:
            async with asyncio.timeout(PATIENCE_S):
                connection = await self._open(connection)
                connection[1].write(payload)
                answer = await _answer(connection[0])
        except (OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            self.log.add(sent_s, self._now(), 0, kind, reason)
            _close(connection)
            return None
        self.log.add(sent_s, self._now(), answer.status, kind, _reason(answer))
        if answer.status == 200:
            self.answers[turn].add(hash(answer.body))
        if answer.closes:
            _close(connection)
            return None
        return connection

    async def _open(self, connection: Connection | None) -> Connection:
        if connection and not connection[0].at_eof():
            return connection
        _close(connection)
        return await asyncio.open_connection(self.host, self.port)


async def _answer(reader: asyncio.StreamReader) -> Answer:
    received = b""
    while True:
        content = await reader.read(READ_BYTES)
        if not content:
            raise ConnectionError("closed without an answer")
        received += content
        if answer := parse_answer(received):
            return answer


def _reason(answer: Answer) -> str:
    return "" if answer.status == 200 else f"{answer.status} {answer.body[:120].decode(errors='replace')}"


def _close(connection: Connection | None) -> None:
    if connection:
        connection[1].close()
