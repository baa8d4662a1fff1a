import io
import json

import pytest

from engine.config import Serve, Slo
from engine.realtime.doors.answers import Answer
from engine.realtime.serving.access_log import AccessLog
from engine.realtime.serving.app import ScoringApp
from engine.scorer import Scorer
from tests.engine.realtime.running import start


def test_a_line_is_one_json_object() -> None:
    stream = io.StringIO()
    AccessLog(stream).write("GET", "/v2", Answer(200, [], bytes(17)), 0.0012345678)
    line = json.loads(stream.getvalue())
    assert {**line, "time": ""} == {
        "time": "", "method": "GET", "path": "/v2", "status": 200, "seconds": 0.001235, "bytes": 17,
    }  # fmt: skip


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
