"""Bodies of many rows are read in pieces, and to the same end as in one."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from engine.errors import InvalidRequest
from engine.realtime.doors import score
from engine.realtime.doors.calls import Asked, Call
from engine.realtime.serving.served import Revision
from engine.scorer import Scorer

N_ROWS = 4000
ODD = {7: "text", 1500: {"f0": "text"}, 1501: {}, 2999: {"f0": 1, "f1": 2, "f2": 3}, N_ROWS - 1: None}


@pytest.fixture
def revision(scorers: Mapping[str, Scorer]) -> Revision:
    return Revision("numeric", scorers["numeric"])


def body(odd: Mapping[int, Any], indent: int | None = None) -> bytes:
    rows = [{"f0": at, "f1": at / 7, "f2": None, "f3": -at} for at in range(N_ROWS)]
    return json.dumps({"rows": [odd.get(at, row) for at, row in enumerate(rows)]}, indent=indent).encode()


def read(revision: Revision, content: bytes, max_rows: int = N_ROWS) -> Asked:
    return score.read(revision, Call(content, None, 1.0, max_rows))


@pytest.fixture
def as_a_whole(revision: Revision) -> Any:
    """Reads as if the body were short."""

    def read_whole(content: bytes) -> Asked:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(score, "PIECE_BYTES", sys.maxsize)
            return read(revision, content)

    return read_whole


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("odd", [{}, ODD])
def test_many_rows_have_the_bits_and_the_reasons_of_a_body_read_at_once(
    revision: Revision,
    as_a_whole: Any,
    odd: Mapping[int, Any],
    indent: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = body(odd, indent)
    expected = as_a_whole(content)
    monkeypatch.delattr(score, "_read_any")  # bad rows are no reason to begin anew
    found = read(revision, content)
    assert found.X.tobytes() == expected.X.tobytes()
    assert found.bad == expected.bad
    assert found.bad.keys() == odd.keys()


def test_too_many_rows_are_counted(revision: Revision) -> None:
    with pytest.raises(InvalidRequest, match=f"has {N_ROWS} rows, at most 10 are taken"):
        read(revision, body({}), max_rows=10)


def test_a_mistake_at_the_end_of_many_rows_is_named_by_its_place(revision: Revision) -> None:
    content = body({})[:-2] + b",]}"
    with pytest.raises(InvalidRequest, match=rf"JSON is malformed.*byte {len(content) - 2}"):
        read(revision, content)
