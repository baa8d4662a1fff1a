"""What a glance at a request tells, before it is read."""

import pytest

from engine.errors import InvalidRequest
from engine.realtime.doors.calls import Call
from engine.realtime.doors.door import ARROW, BINARY, JSON, ROWS, TEXT_BYTES, Door

NAMES_ONE = b'{"inputs":[],"parameters":{"timeout":1000}}'
VALUES = b'"timeout""BYTES"'


def call(body: bytes, json_length: bytes | None = None) -> Call:
    return Call(body, json_length, 1.0, 1000)


def test_only_an_infer_request_may_name_a_deadline_in_its_body() -> None:
    assert JSON.may_name_deadline(call(NAMES_ONE))
    assert not JSON.may_name_deadline(call(b'{"inputs":[]}'))
    assert not ROWS.may_name_deadline(call(b'{"rows":[{"timeout":1}]}'))
    assert not ARROW.may_name_deadline(call(VALUES))


@pytest.mark.parametrize(("json", "named"), [(NAMES_ONE, True), (b'{"inputs":[]}', False), (b"", False)])
def test_a_binary_request_may_name_one_in_its_json_and_not_in_its_values(json: bytes, named: bool) -> None:
    assert BINARY.may_name_deadline(call(json + VALUES, b"%d" % len(json))) == named


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"9999"])
def test_a_length_that_is_none_is_refused_at_the_first_glance(length: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Inference-Header-Content-Length"):
        BINARY.may_name_deadline(call(b"{}", length))


def test_raw_texts_are_large_and_numbers_that_look_like_the_word_are_not() -> None:
    texts, values = b'{"inputs":[{"datatype":"BYTES"}]}', VALUES * TEXT_BYTES
    assert BINARY.is_large(call(texts + values, b"%d" % len(texts)), 4)
    assert not BINARY.is_large(call(b"{}" + values, b"2"), 4)


@pytest.mark.parametrize("door", [JSON, BINARY, ROWS, ARROW])
def test_megabytes_are_large_through_any_door(door: Door) -> None:
    assert door.is_large(call(b"{}" + bytes(2 << 20), b"2" if door is BINARY else None), 4)
    assert not door.is_large(call(b"{}", b"2" if door is BINARY else None), 4)
