"""A request whose head is known is answered past the parser, as the parser would have it and nothing else."""

import asyncio
import json
import socket
from collections.abc import Iterator, Mapping

import pytest

from engine.config import Serve, Slo
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.connection import READ_TIMEOUT_S, Connection
from engine.realtime.serving.heads import MOST_HEAD_BYTES, MOST_HEADS, KnownHeads
from engine.scorer import Scorer
from tests.engine.realtime.running import Engine, start
from tests.engine.realtime.serving.test_server import sweep
from tests.engine.realtime.test_disconnect import Held
from tests.waiting import wait_until

SCORE = "/v1/models/numeric/score"


class Parsed:
    """How many heads the parser has begun to read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n = 0
        begun = Connection.on_message_begin

        def on_message_begin(connection: Connection) -> None:
            self.n += 1
            begun(connection)

        monkeypatch.setattr(Connection, "on_message_begin", on_message_begin)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parsed:
    return Parsed(monkeypatch)


class Client:
    """One connection, and answers as (status, headers, scores or error)."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._stream = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[bytes, bytes], object]:
        status, headers = int(self._stream.readline().split()[1]), {}
        while (line := self._stream.readline()) != b"\r\n":
            name, value = line.rstrip().split(b": ")
            headers[name] = value
        body = json.loads(self._stream.read(int(headers[b"content-length"])))
        return status, headers, body.get("scores", body.get("error"))

    def ask(self, data: bytes) -> object:
        self.send(data)
        return self.answer()[2]


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    client = Client(engine.port)
    with client.socket:
        yield client


def request(first: object, path: str = SCORE, more: str = "") -> bytes:
    body = f'{{"rows": [{{"f0": {first}, "f1": 2, "f2": 3, "f3": 4}}]}}'
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def test_the_parser_reads_each_head_once(engine: Engine, parsed: Parsed, client: Client) -> None:
    new = "X-Test: new\r\n"
    assert [client.ask(request(first, more=new)) for first in (1, 2, 3)] == [[30.0], [31.0], [32.0]]
    assert parsed.n == 1
    other = Client(engine.port)
    with other.socket:
        assert other.ask(request(4, more=new)) == [33.0]
        assert parsed.n == 1
        assert other.ask(request(10, more=new)) == [39.0]  # a digit more, another length
        assert parsed.n == 2


def test_what_does_not_come_in_one_piece_is_for_the_parser(parsed: Parsed, client: Client) -> None:
    one = request(1, more="X-Test: pieces\r\n")
    end = one.index(b"\r\n\r\n") + 4
    client.send(one[:end])
    wait_until(lambda: parsed.n == 1)
    assert client.ask(one[end:]) == [30.0]
    assert client.ask(one) == client.ask(one) == [30.0]
    assert parsed.n == 2
    for cut in (3, end - 2, end, end + 5):
        before = parsed.n
        client.send(one[:cut])
        wait_until(lambda before=before: parsed.n == before + 1)
        client.send(one[cut:])
        assert client.answer()[2] == [30.0]
    client.send(request(1) + request(2) + request(3))
    assert [client.answer()[2] for _ in range(3)] == [[30.0], [31.0], [32.0]]
    assert client.ask(one) == [30.0]


def test_a_request_that_waits_behind_another_keeps_its_turn(engine: Engine, client: Client) -> None:
    good, bad = request(1), request("?")  # the bad one is answered as soon as it is read
    client.ask(good)

    async def come_together() -> None:
        ours = client.socket.getsockname()
        (connection,) = [one for one in engine.server.connections if one.client == ours]
        connection.data_received(good)
        connection.data_received(bad)

    engine.run(come_together())
    assert [client.answer()[0] for _ in range(2)] == [200, 400]


def test_a_connection_of_known_heads_only_is_not_taken_for_one_that_sends_nothing(
    scorers: Mapping[str, Scorer],
) -> None:
    held, settings = Held(scorers["numeric"]), Serve(port=0, slo=Slo(10_000), drain_s=5.0)
    for slow in start(lambda: ScoringApp({"numeric": held}, settings), settings):
        first, second = Client(slow.port), Client(slow.port)
        with first.socket, second.socket:
            assert first.ask(request(1)) == [30.0]
            held.gate.clear()
            second.send(request(2))
            assert held.entered.wait(10)
            sweep(slow, slow.loop.time() + READ_TIMEOUT_S + 1)
            held.gate.set()
            assert second.answer()[::2] == (200, [31.0])


def test_a_body_that_looks_like_a_request_is_none(client: Client) -> None:
    """Answered before its body came: what follows is body all the same, whatever it looks like."""
    inner = request(1)
    assert client.ask(inner) == [30.0]
    client.send(
        f"POST /v1/models/none/score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(inner)}\r\n\r\n".encode()
    )
    assert client.answer()[0] == 404
    client.send(inner)
    client.send(request(2))
    assert client.answer()[2] == [31.0]


def test_an_old_connection_is_told_to_end(
    engine: Engine, parsed: Parsed, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.ask(request(1))
    monkeypatch.setattr(Connection, "max_age_s", -1.0)
    old = Client(engine.port)
    with old.socket:
        old.send(request(1))
        assert old.answer()[1][b"connection"] == b"close"
    assert parsed.n <= 1


@pytest.mark.parametrize(
    "sent",
    [
        request(1, more="Connection: close\r\n"),
        request(1, more="Transfer-Encoding: identity\r\n"),
        request(1, more="Expect: 100-continue\r\n"),
        request(1, more="Upgrade: h2c\r\n"),
        request(1, path="/v1/models/none/score"),
        request(1, more=f"X: {'x' * MOST_HEAD_BYTES}\r\n"),
    ],
)
def test_only_short_scoring_requests_are_remembered(engine: Engine, client: Client, sent: bytes) -> None:
    client.send(sent)
    client.socket.recv(1)
    engine.run(asyncio.sleep(0))
    assert engine.server._heads.get(sent[: sent.index(b"\r\n\r\n") + 4]) is None


def test_a_table_of_heads_does_not_grow_for_ever() -> None:
    heads = KnownHeads()
    scoring = None
    for number in range(3 * MOST_HEADS):
        heads.learn(b"%d" % number, scoring, {}, number)  # type: ignore[arg-type]
    found = [number for number in range(3 * MOST_HEADS) if heads.get(b"%d" % number)]
    assert 0 < len(found) <= MOST_HEADS
    assert found[-1] == 3 * MOST_HEADS - 1
