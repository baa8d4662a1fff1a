import asyncio
import time
from collections.abc import Callable
from typing import Any

from load_tests.soak.account import account_of
from load_tests.soak.traffic import Traffic

REQUEST = b"POST /score HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\n\r\n"
Serving = Callable[[Callable[[str, bytes], tuple[int, bytes]]], Any]


def sent(port: int, *bodies: bytes) -> Traffic:
    payloads = [(kind, REQUEST + body) for kind, body in enumerate(bodies)]
    traffic = Traffic("127.0.0.1", port, payloads, rate=200.0, n_users=4)
    asyncio.run(traffic.run(time.monotonic(), 0.5))
    return traffic


def test_every_request_ends_in_the_log(serving: Serving) -> None:
    answers = {b"a": (200, b"1"), b"b": (429, b"busy"), b"c": (500, b"a bug")}
    traffic = sent(serving(lambda path, body: answers[body]).server_port, *answers)
    account = account_of(traffic.log, [])
    assert account.sent > 10
    assert account.sent == account.answered + account.refused + account.lost
    assert min(account.answered, account.refused, account.lost) > 0
    assert traffic.log.losses[0][2] == "500 a bug"


def test_different_answers_to_one_request_are_told_apart(serving: Serving) -> None:
    turns = iter(range(100_000))
    traffic = sent(serving(lambda path, body: (200, b"%d" % (next(turns) % 3))).server_port, b"a")
    assert len(traffic.answers[0]) == 3


def test_nobody_listening_is_a_loss_not_an_error() -> None:
    async def closed_port() -> int:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        async with server:
            return int(server.sockets[0].getsockname()[1])

    account = account_of(sent(asyncio.run(closed_port()), b"a").log, [])
    assert account.lost == account.sent > 10
