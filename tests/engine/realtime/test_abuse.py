"""Requests made to hurt: each is refused with a sentence, within bounds, and nobody beside it notices."""

import gzip
import json
import resource
import socket
import threading
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from engine.config import Serve, Slo
from engine.realtime.serving.app import ScoringApp
from engine.scorer import Scorer
from tests.engine.realtime.accounting import Account, Client
from tests.engine.realtime.running import Engine, Lane, start
from tests.engine.realtime.test_disconnect import wait_until

INFER, SCORE = "/v2/models/numeric/infer", "/v1/models/numeric/score"
MANY = 100_000
DIGITS = "1" + "0" * 4000
TOO_MANY_DIGITS = "1" + "0" * 50_000
MEGABYTE = bytes(1 << 20)
ROW = json.dumps({"rows": [{"f0": 1, "f1": 2, "f2": 3, "f3": 4}]}).encode()


@pytest.fixture(scope="module")
def roomy(scorers: Mapping[str, Scorer]) -> Iterator[Engine]:
    """An engine with its limits at their defaults, where a request may be as large as any."""
    settings = Serve(port=0, slo=Slo(10_000))
    yield from start(lambda: ScoringApp(scorers, settings), settings)


@pytest.fixture
def neighbour(roomy: Engine) -> Iterator[None]:
    """Somebody who asks for a score all the time, and gets it each time."""
    client = Client(roomy.port, SCORE, ROW, b'"scores":[30.0]')
    client.start()
    while not client.account.outcomes["answered"]:
        assert client.is_alive()
    yield
    account = client.stop()
    assert account.losses == []
    assert set(account.outcomes) == {"answered"}


def tensor(shape: str = "[1,4]", data: str = "[1,2,3,4]", name: str = "rows", more: str = "") -> str:
    return f'{{"name":"{name}","datatype":"FP32","shape":{shape},"data":{data}{more}}}'


def infer(*tensors: str, more: str = "") -> bytes:
    return f'{{"inputs":[{",".join(tensors)}]{more}}}'.encode()


def parameters(n: int) -> str:
    return ',"parameters":' + json.dumps(dict.fromkeys(map(str, range(n)), 1))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (infer(tensor(shape=f"[{DIGITS},{DIGITS}]")), "$.inputs[0].shape[0]"),
        (infer(tensor(shape=f"[{TOO_MANY_DIGITS}]")), "$.inputs[0].shape[0]"),
        (infer(tensor(shape="[18446744073709551616,4]")), "$.inputs[0].shape[0]"),
        (infer(tensor(shape="[4294967297,4]")), "of input 'rows', got 4"),
        (infer(tensor(shape=f"[{','.join(['9223372036854775807'] * 16)}]")), "of input 'rows', got 4"),
        (infer(tensor(shape=f"[{','.join(['1'] * 17)}]")), "$.inputs[0].shape"),
        (infer(tensor(shape="[0,9223372036854775807]", data="[]")), "shape [n, 4] of input 'rows'"),
        (infer(tensor(name="f0", shape="[9223372036854775807,0]", data="[]")), "input 'f0'"),
        (infer(tensor(data=f"[{DIGITS},1,1,1]")), "input 'rows'"),
        (infer(tensor(data=f"[{TOO_MANY_DIGITS},1,1,1]")), "input 'rows'"),
        (infer(tensor(data=f"[[{DIGITS},1,1,1]]")), "input 'rows'"),
        (infer(tensor(), more=f',"parameters":{{"timeout":1{"0" * 400}}}'), "'timeout'"),
        (infer(tensor(), more=f',"parameters":{{"timeout":-{DIGITS}}}'), "'timeout'"),
        (infer(tensor(more=f',"parameters":{{"binary_data_size":{DIGITS}}}')), "input 'rows'"),
        (infer(tensor(data="[" * 45_000 + "]" * 45_000)), "too deeply"),
        (b"[" * 90_000, "got `array`"),
        (b'{"x":' * 15_000, "unknown field `x`"),
        (b'\xef\xbb\xbf{"inputs":[]}', "malformed"),
        (b'{"id":"\\ud800","inputs":[]}', "no infer request"),
        (b'{"id":"\xc3\x28","inputs":[]}', "utf-8"),
        (b'{"inputs":[{"name":"\xff"}]}', "utf-8"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_request_of_odd_sizes_is_refused_with_the_place_on_every_lane(
    lane: Lane, body: bytes, words: str
) -> None:
    reply = lane.ask("POST", INFER, body)
    assert (reply.status, list(reply.json)) == (400, ["error"])
    assert words in reply.json["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (infer(*[tensor("[1]", "[1]", "f0")] * MANY), "'f0' is there twice"),
        (infer(*(tensor("[1]", "[1]", f"f{index}") for index in range(MANY))), "'f4' is no feature"),
        (infer(tensor(), more=f',"outputs":{json.dumps([{"name": "score"}] * MANY)}'), f"{MANY} times"),
        (infer(tensor(), more=parameters(MANY)[:-1] + ',"sequence_id":1}'), "'sequence_id'"),
        (
            infer(
                tensor(),
                more=',"outputs":[{"name":"score"' + parameters(MANY)[:-1] + ',"classification":1}}]',
            ),
            "'classification'",
        ),
        (
            infer(tensor(more=parameters(MANY)[:-1] + ',"shared_memory_region":"x"}')),
            "shared memory",
        ),
        (infer(tensor(data="[" + "[1,2,3,4]," * MANY + "[1]]", shape=f"[{MANY + 1},4]")), "ragged"),
        (infer(tensor(data="[" * MANY + "]" * MANY)), "too deeply"),
        (infer(tensor(data=f"[{'9' * 1_000_000}]", shape="[1]")), "out of range"),
    ],
    ids=["tensors", "names", "outputs", "parameters", "of an output", "of an input", "ragged", "[", "digits"],
)
def test_a_hundred_thousand_of_anything_is_refused_beside_a_neighbour(
    roomy: Engine, neighbour: None, body: bytes, words: str
) -> None:
    reply = roomy.ask("POST", INFER, body)
    assert (reply.status, list(reply.json)) == (400, ["error"])
    assert words in reply.json["error"]


def test_a_hundred_thousand_parameters_that_mean_nothing_cost_nothing(roomy: Engine, neighbour: None) -> None:
    body = infer(tensor(more=parameters(MANY)), more=parameters(MANY))
    assert roomy.ask("POST", INFER, body).json["outputs"][0]["data"] == [30.0]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("path", [INFER, SCORE])
def test_a_bomb_is_not_inflated_beyond_the_limit(
    roomy: Engine, neighbour: None, encoding: str, path: str
) -> None:
    packer = zlib.compressobj(1, wbits=31 if encoding == "gzip" else 15)
    bomb = b"".join(packer.compress(MEGABYTE) for _ in range(300)) + packer.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reply = roomy.ask("POST", path, bomb, {"Content-Encoding": encoding})
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert (reply.status, list(reply.json)) == (413, ["error"])
    assert grown_bytes < 150 << 20


def test_a_bomb_within_a_bomb_is_one_encoding_that_is_not_known(lane: Lane) -> None:
    twice = gzip.compress(gzip.compress(ROW))
    assert lane.ask("POST", SCORE, twice, {"Content-Encoding": "gzip, gzip"}).status == 415
    assert lane.ask("POST", SCORE, twice, {"Content-Encoding": "gzip"}).status == 400


def test_a_body_in_chunks_of_one_byte_is_read(lane: Lane) -> None:
    body = ROW + b" " * (50_000 - len(ROW))
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    head = f"POST {SCORE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", lane.port), timeout=20) as client:
        client.sendall(head.encode() + chunks + b"0\r\n\r\n")
        assert b'"scores":[30.0]' in client.makefile("rb").read()


def test_bodies_that_trickle_keep_nobody_else_waiting(roomy: Engine, neighbour: None) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    with ExitStack() as stack:
        address = ("127.0.0.1", roomy.port)
        slow = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(200)]
        for place, client in enumerate(slow):
            client.sendall(head % (SCORE.encode(), len(ROW) if place % 2 else 200_000))
            client.sendall(ROW[:1])
        client = Client(roomy.port, SCORE, ROW, b'"scores":[30.0]')
        client.start()
        for sender in slow[1::2]:
            sender.sendall(ROW[1:])
        for sender in slow[1::2]:
            assert b"30.0" in sender.recv(4096)
        assert Account.sum([client.stop()]).losses == []


BAD_ROWS = json.dumps({"rows": [{"f0": "x"}] * 60_000}).encode()
TINY_ROWS = json.dumps({"rows": [{}] * 1500}).encode()
TINY_TENSOR = infer(tensor("[1500,4]", str([1] * 6000)))
TEXTS = (
    b'{"inputs":[{"name":"f0","datatype":"BYTES","shape":[2000],"parameters":{"binary_data_size":10000}}]}'
)
BINARY_TEXTS = TEXTS + b"\x01\0\0\0x" * 2000
BAD, GOOD = (400, b'"error":"row 0: '), (200, b'"data":[10.0,10.0,')


@pytest.mark.parametrize(
    ("path", "body", "headers", "expected"),
    [
        (SCORE, BAD_ROWS, {}, BAD),
        (SCORE, gzip.compress(BAD_ROWS, 1), {"Content-Encoding": "gzip"}, BAD),
        (SCORE, TINY_ROWS, {}, BAD),
        (INFER, TINY_TENSOR, {}, GOOD),
        (INFER, BINARY_TEXTS, {"Inference-Header-Content-Length": str(len(TEXTS))}, (400, b'"error":')),
    ],
    ids=["long", "compressed", "of tiny rows", "of tiny rows in a tensor", "of binary texts"],
)
def test_a_large_body_is_read_beside_the_loop_which_answers_others(
    roomy: Engine, path: str, body: bytes, headers: Mapping[str, str], expected: tuple[int, bytes]
) -> None:
    aside, go_on = roomy.app.model("numeric").aside, threading.Event()
    aside.submit(go_on.wait)
    with ThreadPoolExecutor() as threads:
        try:
            large = threads.submit(roomy.ask, "POST", path, body, headers)
            wait_until(lambda: aside._work_queue.qsize() > 0)
            assert roomy.ask("POST", SCORE, ROW).json["scores"] == [30.0]
            assert not large.done()
        finally:
            go_on.set()
        reply = large.result()
    status, words = expected
    assert (reply.status, words in reply.body) == (status, True)


def test_who_leaves_while_a_large_body_waits_is_forgotten(roomy: Engine) -> None:
    aside, go_on = roomy.app.model("numeric").aside, threading.Event()
    aside.submit(go_on.wait)
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    body = gzip.compress(ROW)
    try:
        with socket.create_connection(("127.0.0.1", roomy.port), timeout=20) as client:
            client.sendall(head % (SCORE.encode(), len(body)) + body)
            wait_until(lambda: roomy.app.in_flight == 1)
        wait_until(lambda: roomy.app.in_flight == 0)
    finally:
        go_on.set()
    assert roomy.ask("POST", SCORE, ROW).json["scores"] == [30.0]
    assert roomy.app.in_flight == 0


@pytest.mark.parametrize(
    ("path", "status"), [("/v2", 200), ("/v2/models/nope", 404), (INFER, 405), ("/v2/repository/index", 405)]
)
def test_head_has_the_status_and_no_body_whatever_it_is(lane: Lane, path: str, status: int) -> None:
    reply = lane.ask("HEAD", path)
    assert (reply.status, reply.body) == (status, b"")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v2/models/%ff%fe", "no model"),
        ("/v2/models/%00", "no model"),
        ("/v2/models/numeric%2Finfer", "GET"),
        (f"/v2/models/{'x' * 5000}", "no model"),
        (f"/v2/models/numeric/versions/{'1' * 5000}", "no version"),
    ],
)
def test_odd_paths_are_answered_with_a_sentence(lane: Lane, path: str, words: str) -> None:
    reply = lane.ask("GET", path)
    assert reply.status in (404, 405)
    assert words in reply.json["error"] or "expected POST" in reply.json["error"]


def nested(depth: int) -> Any:
    return f'{{"rows":{"[" * depth}1{"]" * depth}}}'.encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (nested(45_000), "too deeply"),
        (nested(100), "got an array"),
        (b'{"rows":[{"f0":' + b'{"f0":' * 14_000, "too deeply"),
        (b'{"rows":[{"f0":%b}]}' % TOO_MANY_DIGITS.encode(), "out of range"),
        (b'{"rows":[{"f0":%b}]}' % DIGITS.encode(), "'f0'"),
        (b'{"rows":[{"f0":1e400,"f1":1,"f2":1,"f3":1}]}', "out of range"),
        (b'{"rows":[{%b}]}' % b",".join(b'"k%d":1' % index for index in range(9000)), "'f0' is missing"),
        (b'{"rows":[{"f0":"\xff"}]}', "utf-8"),
        (b'{"rows":{}}', "$.rows"),
        (b'{"rows":[],"rows":1}', "$.rows"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_odd_rows_are_refused_with_the_place_on_every_lane(lane: Lane, body: bytes, words: str) -> None:
    reply = lane.ask("POST", SCORE, body)
    assert (reply.status, list(reply.json)) == (400, ["error"])
    assert words in reply.json["error"]
