"""Errors of units, carried from workers to the driver through the job's records."""

import uuid
from collections.abc import Collection

import msgspec

from engine import errors
from engine.batch.output import JobStore
from engine.errors import Failed, TandemError

FOLDER = "failed"


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why an attempt at a unit ended; ``error`` names a class of ``engine.errors``."""

    unit: int
    error: str
    message: str


def record_failure(store: JobStore, unit: int, error: str, message: str) -> None:
    """Leave an error for the driver."""
    store.put(
        f"{FOLDER}/{unit:05d}-{uuid.uuid4().hex}.json", msgspec.json.encode(Failure(unit, error, message))
    )


def failures(store: JobStore, *, known: Collection[str] = ()) -> list[Failure]:
    """The failures recorded in a store, in the order of units, without those known already."""
    names = sorted(set(store.names(FOLDER)) - set(known))
    found = [store.read(f"{FOLDER}/{name}") for name in names]
    return [msgspec.json.decode(data, type=Failure) for data in found if data is not None]


def as_error(failure: Failure) -> TandemError:
    """The error as it was raised where it happened."""
    kind = getattr(errors, failure.error, Failed)
    error: TandemError = kind(failure.message)
    return error
