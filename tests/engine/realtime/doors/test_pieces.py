"""Lists in pieces: whatever decodes in pieces is what decodes as a whole."""

import json
from itertools import chain
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.realtime.doors import pieces
from engine.realtime.doors.pieces import LEAVES, LISTS, MALFORMED, ROWS, Form, decode_list, in_pieces

ROWS_DECODER = msgspec.json.Decoder(dict[str, list[Any]])
LIST_DECODER = msgspec.json.Decoder(list[Any])
# Whatever ends an element may stand in a text, too.
TEXTS = st.text('},[]{" \\rows:\u20ac', max_size=12)
VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
SPACES = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t"), ("\r\n , ", ":")])
DAMAGE = st.none() | st.tuples(
    st.integers(0, 400), st.sampled_from([b"", b",", b"}", b"]", b"[", b" ", b'"'])
)


@pytest.fixture(autouse=True, scope="module")
def _short_pieces() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", 5)
        yield


def cut(text: bytes, form: Form) -> list[list[Any]] | None:
    try:
        return list(in_pieces(text, form, LIST_DECODER.decode))
    except MALFORMED:
        return None


def damaged(text: bytes, damage: tuple[int, bytes] | None) -> bytes:
    if damage is None:
        return text
    at, put = damage[0] % (len(text) + 1), damage[1]
    return text[:at] + put + text[at + (not put) :]


@settings(max_examples=300)
@given(st.lists(VALUES, max_size=12), SPACES, DAMAGE)
@example([{"a": "},{"}, {"b": 1}], (",", ":"), None)
@example([1, 2, 3, 4, 5], (",", ":"), (10, b","))
def test_what_decodes_in_pieces_is_what_decodes_as_a_whole(
    values: list[Any], spaces: tuple[str, str], damage: tuple[int, bytes] | None
) -> None:
    text = json.dumps({"rows": values}, separators=spaces, ensure_ascii=False).encode()
    if (found := cut(damaged(text, damage), ROWS)) is not None:
        assert ROWS_DECODER.decode(damaged(text, damage)) == {"rows": list(chain(*found))}
    text = damaged(json.dumps(values, separators=spaces, ensure_ascii=False).encode(), damage)
    for form in (LEAVES, LISTS):
        if (found := cut(text, form)) is not None:
            assert LIST_DECODER.decode(text) == list(chain(*found))


@pytest.mark.parametrize(
    ("text", "form", "n_pieces"),
    [
        (b' { "rows" : [ {"a": 1} ,\n {"a": 2}, {"a": 3} ] }\n', ROWS, 3),
        (b'{"rows":[{"a":{"b":1}},{"a":null}]}', ROWS, 2),
        (b"[1.5, null, 2.25, 1e3]", LEAVES, 3),
        (b'["some text", "another"]', LEAVES, 2),
        (b"[[1, 2, 3], [4, 5, 6]]", LISTS, 2),
    ],
)
def test_ordinary_lists_are_cut(text: bytes, form: Form, n_pieces: int) -> None:
    assert len(cut(text, form) or ()) == n_pieces


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (b'{"rows":[{"a":1},{"a":2}],"rows":[{"a":3},{"a":4}]}', ROWS),
        (b'{"rows":[{"a":1},{"a":2},]}', ROWS),
        (b'{"rows":[{"a":1},          ,{"a":2}]}', ROWS),
        (b'{"rows":[{"a":1}],"more":[{"a":1}]}', ROWS),
        (b'{"rows":[{"a":"},{"},{"a":"},{"}]}', ROWS),
        (b"[1,2,3,4,5,6", LEAVES),
        (b"[1,2,3,4,5,6]]", LEAVES),
        (b"[1,2,3,,,,,,,,4,5]", LEAVES),
        (b"[]", LEAVES),
    ],
)
def test_what_cannot_be_cut_is_told(text: bytes, form: Form) -> None:
    assert cut(text, form) is None


@given(st.lists(VALUES, max_size=12), SPACES)
def test_a_list_is_decoded_whether_or_not_it_can_be_cut(values: list[Any], spaces: tuple[str, str]) -> None:
    text = json.dumps(values, separators=spaces, ensure_ascii=False).encode()
    assert decode_list(LIST_DECODER, text, LEAVES) == decode_list(LIST_DECODER, text, LISTS) == values


def test_what_is_no_list_raises_as_its_decoder_does() -> None:
    with pytest.raises(msgspec.DecodeError, match="Expected `array`, got `object`"):
        decode_list(LIST_DECODER, b'{"not a list": 1}', LEAVES)
