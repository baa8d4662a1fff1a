import http

import grpc
import pytest

from engine import errors
from engine.errors import TandemError
from engine.realtime.counting.counters import STATUSES as COUNTED
from engine.realtime.doors.statuses import STATUSES, grpc_code, http_status

ERRORS = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, TandemError)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_a_status_of_http_and_of_grpc(kind: type[TandemError]) -> None:
    error = kind("x")
    assert http.HTTPStatus(http_status(error)) >= 400
    assert grpc_code(error) in grpc.StatusCode.__members__
    assert str(http_status(error)) in COUNTED


@pytest.mark.parametrize("kind", ERRORS)
def test_the_status_says_whose_fault_it_is(kind: type[TandemError]) -> None:
    status = http_status(kind("x"))
    if issubclass(kind, errors.InvalidInput | errors.Conflict):
        assert 400 <= status < 500
    elif issubclass(kind, errors.Failed):
        assert status == 500
    elif issubclass(kind, errors.Refused):
        assert status in (429, 503, 504)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.BadRow, 400),
        (errors.Forbidden, 403),
        (errors.NotFound, 404),
        (errors.WrongMethod, 405),
        (errors.SlowBody, 408),
        (errors.BodyTooLarge, 413),
        (errors.UnsupportedMedia, 415),
        (errors.UnsupportedEncoding, 415),
        (errors.Overloaded, 429),
        (errors.ScoringFailed, 500),
        (errors.ShuttingDown, 503),
        (errors.DeadlineExceeded, 504),
    ],
)
def test_an_error_has_its_own_status(kind: type[TandemError], status: int) -> None:
    assert http_status(kind("x")) == status


def test_every_line_of_the_table_is_an_error_of_the_engine() -> None:
    assert set(STATUSES) <= set(ERRORS)
