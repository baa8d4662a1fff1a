import io
import json
import socket

import pytest

from engine.config import Serve, Slo
from engine.realtime.doors.answers import Answer
from engine.realtime.serving.access_log import AccessLog
from engine.realtime.serving.app import ScoringApp
from engine.scorer import Scorer
from tests.engine.realtime.running import start
from tests.engine.realtime.serving.test_server import sweep_until_told


def test_a_line_is_one_json_object() -> None:
    stream = io.StringIO()
    AccessLog(stream).write("GET", "/v2", Answer(200, [], bytes(17)), 0.0012345678)
    line = json.loads(stream.getvalue())
    assert {**line, "time": ""} == {
        "time": "", "method": "GET", "path": "/v2", "status": 200, "seconds": 0.001235, "bytes": 17,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "method", "path", "status"),
    [
        (b"nonsense\r\n\r\n", "", "", 400),
        (b"GET /v2?secret=1 HTTP/1.1\r\nX: " + bytes(100_000), "GET", "/v2", 400),
        (b"GET /v2?secret=1 HTTP/1.1\r\nX: " + b"a" * 100_000, "GET", "/v2", 431),
        (b"POST /v1/models/numeric/score HTTP/1.1\r\nHost: x\r\n", "POST", "/v1/models/numeric/score", 408),
        (
            b"POST /v1/models/numeric/score HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n123456",
            "POST", "/v1/models/numeric/score", 408,
        ),
    ],
)  # fmt: skip
def test_it_has_the_requests_that_never_reach_a_model(
    scorers: dict[str, Scorer], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    sent: bytes, method: str, path: str, status: int,
) -> None:  # fmt: skip
    monkeypatch.setattr("engine.realtime.serving.connection.READ_TIMEOUT_S", 0.5)
    settings = Serve(port=0, slo=Slo(10_000), access_log=True, drain_s=1.0)
    for engine in start(lambda: ScoringApp(scorers, settings), settings):
        with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as client:
            client.sendall(sent)
            sweep_until_told(engine, client)
            answer = client.makefile("rb").read()
        (line,) = capsys.readouterr().err.splitlines()
        told = json.loads(line)
        assert (told["method"], told["path"], told["status"]) == (method, path, status)
        assert told["bytes"] == len(answer.partition(b"\r\n\r\n")[2])
        assert 0 <= told["seconds"] < 10
        assert not any(word in line for word in ("secret", "123456", "aaaa"))


def test_it_is_off_unless_asked_for_and_never_holds_values(
    scorers: dict[str, Scorer], capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"f0": 123456, "f1": 0, "f2": 0, "f3": 0}
    for settings in (Serve(port=0, slo=Slo(10_000)), Serve(slo=Slo(10_000), access_log=True)):
        for engine in start(lambda: ScoringApp(scorers, settings), settings):  # noqa: B023
            engine.ask("POST", "/v1/models/numeric/score", {"rows": [row]})
            engine.ask("GET", "/v2/nothing?secret=1")
        lines = capsys.readouterr().err.splitlines()
        paths = [(json.loads(line)["path"], json.loads(line)["status"]) for line in lines]
        wanted = [("/v1/models/numeric/score", 200), ("/v2/nothing", 404)] if settings.access_log else []
        assert paths == wanted
        assert not any("123456" in line for line in lines)
