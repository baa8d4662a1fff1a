"""What a finished output says about itself: ``_manifest.json``, readable with jq or DuckDB."""

from typing import Literal

import msgspec

from engine.batch.plan import InputFile, JobId, Options
from engine.errors import OutputExists

MANIFEST = "_manifest.json"
SUCCESS = "_SUCCESS"
QUARANTINE = "_quarantine"
"""The directory of rows that were set aside."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the output.

    Attributes:
        path: Path below the output's location.
        rows: Rows in it.
        size: Bytes.
        sha256: Digest of its bytes.
        attempt: The attempt that wrote it.
    """

    path: str
    rows: int
    size: int
    sha256: str
    attempt: str

    @property
    def is_set_aside(self) -> bool:
        """Whether it holds bad rows as they were read, and no scores."""
        return QUARANTINE in self.path.split("/")


class Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The record that a unit is finished; the first one written for a unit is the truth.

    Attributes:
        unit: Index in the plan.
        attempt: The attempt that won.
        parts: Its files.
        rows_in: Rows read, or passed over since they cannot meet the condition.
        rows_out: Rows with a place in the scores.
        rows_bad: Rows that break a rule of a feature, whatever became of them.
        reasons: How many rows per reason, in words.
        seconds: Time it took.
        finished: When it ended, seconds since 1970 by its machine's clock; for people only.
        runner: Who ran it.
    """

    unit: int
    attempt: str
    parts: tuple[Part, ...]
    rows_in: int
    rows_out: int
    rows_bad: int
    reasons: dict[str, int]
    seconds: float
    finished: float
    runner: str


class JobRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One job that wrote into an output.

    Attributes:
        job: Its id.
        model: ``name@revision`` for people.
        revision: Digest of the bundle.
        bundle: Where the bundle lay.
        inputs: Locations as the caller gave them.
        files: The input files, with size and modification time.
        options: What decided the output.
        rows_in: Rows read, or passed over since they cannot meet the condition.
        rows_out: Rows with a place in the scores.
        rows_bad: Rows that broke a rule of a feature.
        reasons: How many rows per reason.
        n_units: Units of commit.
        score_columns: Names of the score's columns.
        engine: Version of this software.
        finished: When it was published, UTC in ISO 8601.
    """

    job: JobId
    model: str
    revision: str
    bundle: str
    inputs: tuple[str, ...]
    files: tuple[InputFile, ...]
    options: Options
    rows_in: int
    rows_out: int
    rows_bad: int
    reasons: dict[str, int]
    n_units: int
    score_columns: tuple[str, ...]
    engine: str
    finished: str


class OutputManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``_manifest.json``: every job that wrote here (appending adds one), every file."""

    jobs: tuple[JobRecord, ...]
    parts: tuple[Part, ...]
    format: Literal[1] = 1

    def holds(self, job: str) -> bool:
        """Whether a job of this id wrote into the output."""
        return any(record.job == job for record in self.jobs)


def decode(data: bytes, where: str) -> OutputManifest:
    """The manifest in some bytes; raises ``OutputExists`` if they are none."""
    try:
        return msgspec.json.decode(data, type=OutputManifest)
    except msgspec.MsgspecError as error:
        raise OutputExists(
            f"expected a manifest of format 1, got another file - at {where}: {error}"
        ) from error


def encode(value: msgspec.Struct) -> bytes:
    """A record as JSON for people and programs."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
