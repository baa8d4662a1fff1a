import gzip
import random
import zlib

import pytest

from engine.errors import BodyTooLarge, InvalidRequest
from engine.realtime.doors import body as doors_body
from engine.realtime.doors.body import MAX_MEMBERS, PIECE_BYTES, inflate

NOISE = random.Random(0).randbytes(3 * PIECE_BYTES)
"""Longer than a piece when it is compressed, too."""


@pytest.mark.parametrize(
    "sizes", [(10,), (3 * PIECE_BYTES,), (3 * PIECE_BYTES, 0, 1), (0,), (1,) * MAX_MEMBERS]
)
def test_the_members_of_a_gzip_body_are_read_one_after_another(sizes: tuple[int, ...]) -> None:
    members = [NOISE[:size] for size in sizes]
    whole = b"".join(members)
    assert inflate(b"".join(map(gzip.compress, members)), b"gzip", len(whole)) == whole


def test_all_members_together_keep_the_limit() -> None:
    body = gzip.compress(NOISE[:100]) + gzip.compress(NOISE[:100])
    assert len(inflate(body, b"gzip", 200)) == 200
    with pytest.raises(BodyTooLarge):
        inflate(body, b"gzip", 199)


def test_members_without_end_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="followed by other bytes"):
        inflate(gzip.compress(b"") * (MAX_MEMBERS + 1), b"gzip", 100)


def test_what_follows_a_members_end_is_not_copied_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    made = zlib.decompressobj

    class Watched:
        def __init__(self, bits: int) -> None:
            self._one = made(bits)

        def __getattr__(self, name: str) -> object:
            return getattr(self._one, name)

        def decompress(self, data: memoryview, limit: int) -> bytes:
            taken.append(len(data))
            return self._one.decompress(data, limit)

    monkeypatch.setattr(doors_body.zlib, "decompressobj", Watched)
    inflate(gzip.compress(b"") * 1000 + gzip.compress(NOISE), b"gzip", len(NOISE))
    assert max(taken) <= PIECE_BYTES


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"", b"gzip"),
        (gzip.compress(NOISE)[:-1], b"gzip"),
        (gzip.compress(b"a") + gzip.compress(b"b")[:-1], b"gzip"),
        (gzip.compress(b"a") + b"garbage behind it", b"gzip"),
        (zlib.compress(b"a") + zlib.compress(b"b"), b"deflate"),
    ],
)
def test_a_body_that_is_not_whole_is_refused(body: bytes, encoding: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"the body is no gzip|cut short|followed by other bytes"):
        inflate(body, encoding, 1 << 20)
