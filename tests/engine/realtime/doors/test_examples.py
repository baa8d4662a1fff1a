"""Commands that people paste: they work whatever a model's features are."""

import json
import shlex

from engine.prepare.preparer import Preparer
from engine.realtime.doors.examples import curl_command, rows_example
from engine.schema import Feature, Output, Schema

SCHEMA = Schema(
    features=(
        Feature(name="tail number", type="category", buckets=64, required=True),
        Feature(name="l'origine", type="category", categories=("L'Aquila", "JFK"), required=True),
        Feature(name="wet", type="bool", required=True),
        Feature(name="day", type="int8", required=True),
        Feature(name="temp", type="float32", required=True),
    ),
    block="float32",
    output=Output(name="score", type="float32"),
)


def test_a_shell_gives_the_engine_a_row_that_keeps_all_rules() -> None:
    words = shlex.split(curl_command("http://127.0.0.1:8080/v1/models/m/score", rows_example(SCHEMA)))
    assert words[:4] == ["curl", "-s", "http://127.0.0.1:8080/v1/models/m/score", "-d"]
    _, bad = Preparer(SCHEMA).rows(json.loads(words[4])["rows"])
    assert not bad
