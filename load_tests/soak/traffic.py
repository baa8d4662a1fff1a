"""Mixed requests at a moderate Poisson rate, every one of them entered into a log.

Users share the rate; each has a connection and a channel of its own, with one request under way at most.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from load_tests.fast.http_answer import Answer
from load_tests.soak.account import Log
from load_tests.soak.inputs import Payload
from load_tests.soak.lanes import GrpcLane, HttpLane, Lane

PATIENCE_S = 15.0
"""An answer that takes longer is given up."""
MAX_REQUESTS = 20_000_000


@dataclass(slots=True)
class Traffic:
    """Load on one engine.

    Attributes:
        host: Of the engine.
        ports: By lane, ``http`` and ``grpc``.
        payloads: Sent in turn.
        rate: Requests a second, over all users.
        n_users: Each with one lane of a kind.
        log: What became of the requests so far.
        answers: Payload's index → the different bodies that answered it, by their hash.
    """

    host: str
    ports: Mapping[str, int]
    payloads: Sequence[Payload]
    rate: float
    n_users: int
    log: Log = field(default_factory=Log)
    answers: dict[int, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    _started: float = 0.0

    async def run(self, started: float, duration_s: float) -> None:
        """Send for some seconds and await the last answers; ``started`` is the log's zero, monotonic."""
        self._started = started
        end = self._now() + duration_s
        await asyncio.gather(*(self._user(random.Random(user), end) for user in range(self.n_users)))

    def _now(self) -> float:
        return time.monotonic() - self._started

    async def _user(self, chance: random.Random, end: float) -> None:
        lanes: dict[str, Lane] = {
            "http": HttpLane(self.host, self.ports["http"]),
            "grpc": GrpcLane(self.host, self.ports["grpc"]),
        }
        due = self._now()
        while True:
            due += chance.expovariate(self.rate / self.n_users)
            if due > end or self.log.n_sent >= MAX_REQUESTS:
                break
            await asyncio.sleep(due - self._now())
            await self._ask(lanes)
        for lane in lanes.values():
            await lane.close()

    async def _ask(self, lanes: Mapping[str, Lane]) -> None:
        """Send the next request and log its end."""
        turn = self.log.n_sent % len(self.payloads)
        payload = self.payloads[turn]
        self.log.n_sent += 1
        sent_s = self._now()
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await lanes[payload.lane].ask(payload.content)
        except (OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            self.log.add(sent_s, self._now(), 0, payload.kind, reason)
            return
        self.log.add(sent_s, self._now(), answer.status, payload.kind, _reason(answer))
        if answer.status == 200:
            self.answers[turn].setdefault(hash(answer.body), answer.body)


def _reason(answer: Answer) -> str:
    return "" if answer.status == 200 else f"{answer.status} {answer.body[:120].decode(errors='replace')}"
