"""The one table from the engine's errors to the statuses of HTTP and gRPC."""

from engine import errors
from engine.errors import TandemError

STATUSES: dict[type[TandemError], tuple[int, str]] = {
    errors.TandemError: (500, "INTERNAL"),
    errors.InvalidInput: (400, "INVALID_ARGUMENT"),
    errors.WrongMethod: (405, "UNIMPLEMENTED"),
    errors.SlowBody: (408, "CANCELLED"),
    errors.BodyTooLarge: (413, "INVALID_ARGUMENT"),
    errors.UnsupportedMedia: (415, "INVALID_ARGUMENT"),
    errors.Forbidden: (403, "PERMISSION_DENIED"),
    errors.NotFound: (404, "NOT_FOUND"),
    errors.Conflict: (409, "ALREADY_EXISTS"),
    errors.Refused: (503, "UNAVAILABLE"),
    errors.Overloaded: (429, "RESOURCE_EXHAUSTED"),
    errors.DeadlineExceeded: (504, "DEADLINE_EXCEEDED"),
    errors.ShuttingDown: (503, "UNAVAILABLE"),
    errors.Failed: (500, "INTERNAL"),
}
"""HTTP status and gRPC code by class; a class without a line has its parent's."""
GRPC_CODES: dict[int, str] = dict(STATUSES.values())
"""gRPC code by HTTP status, which has one."""


def http_status(error: TandemError) -> int:
    """The HTTP status of an error."""
    return _line(type(error))[0]


def grpc_code(error: TandemError) -> str:
    """The name of the gRPC code of an error."""
    return _line(type(error))[1]


def _line(kind: type) -> tuple[int, str]:
    return next(STATUSES[parent] for parent in kind.__mro__ if parent in STATUSES)
