"""An answer ends where its head says."""

import pytest

from load_tests.fast.http_answer import parse_answer

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def test_a_whole_answer_is_read() -> None:
    assert parse_answer(WHOLE) == (200, b"hello", False)


@pytest.mark.parametrize("length", [0, 10, len(WHOLE) - 6, len(WHOLE) - 1])
def test_an_incomplete_answer_waits_for_more(length: int) -> None:
    assert parse_answer(WHOLE[:length]) is None


def test_a_closing_server_is_noticed_whatever_the_letters_case() -> None:
    answer = parse_answer(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nCONNECTION: Close\r\n\r\n")
    assert answer == (429, b"", True)


def test_chunks_end_with_an_empty_one() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert parse_answer(head + b"5\r\nhello\r\n") is None
    answer = parse_answer(head + b"5\r\nhello\r\n0\r\n\r\n")
    assert answer is not None
    assert answer.status == 200


def test_an_answer_without_a_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an answer with a length"):
        parse_answer(b"HTTP/1.1 200 OK\r\n\r\nhello")
