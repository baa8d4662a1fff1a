"""Where a job's results and records go, as the rest of the batch path sees it.

``JobStore`` holds the records and attempts of one unfinished job, hidden from readers of the
output. ``Output`` is the place that readers look at; it changes once, when a job is published.
Both are plain values that pickle, so that workers on other machines reach the same place.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from engine.batch.filesystem import absolute, is_object_store
from engine.batch.manifest import JobRecord, OutputManifest, Part
from engine.config import Mode


class JobStore(Protocol):
    """Records and attempts of one job. Record names are relative paths such as ``plan.json``."""

    def __hash__(self) -> int:
        """Equal stores are the same place."""

    def read(self, name: str) -> bytes | None:
        """A record's bytes, None if there is none."""

    def put(self, name: str, data: bytes) -> bool:
        """Create a record, durable and whole; False (and no change) if it exists already.

        Raises ``JobChanged`` where the job is known to be published or given up.
        """

    def replace(self, name: str, data: bytes) -> None:
        """Write a record, whole and durable, over the one that is there."""

    def names(self, folder: str) -> list[str]:
        """Names of the records in a folder, without the folder."""

    def create(self, name: str) -> BinaryIO:
        """A new file for an attempt, durable once closed."""

    def discard(self, name: str) -> None:
        """Remove an attempt's file if it is there."""


class Output(Protocol):
    """The place that readers look at."""

    def store(self, job: str) -> JobStore:
        """The records of one job that writes here."""

    def manifest(self) -> OutputManifest | None:
        """What is published here, None if nothing is; ``OutputExists`` if it is not ours."""

    def keeps_version(self, job: str) -> bool:
        """Whether what a job published is kept though superseded: a new run of it is then another job."""

    def unfinished(self) -> list[str]:
        """Ids of jobs with records here that are not published."""

    def check_all_is_ours(self) -> None:
        """Raise ``OutputExists`` if publishing would remove what no job wrote."""

    def alone(self, job: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Hold the job against other drivers where that is possible; False if another one has it.

        Raises ``OutputExists`` if publishing would remove what no job wrote.
        """

    def publish(self, record: JobRecord, parts: Sequence[Part], mode: Mode) -> OutputManifest:
        """Make the job's parts visible, all at once; a second call changes nothing."""

    def forget(self, job: str) -> None:
        """Remove the records and attempts of a job; what is published stays."""


def open_output(location: str) -> Output:
    """The output at a local path or an object store's URI."""
    if is_object_store(location):
        from engine.batch.object_output import ObjectOutput

        return ObjectOutput(location)
    from engine.batch.local_output import LocalOutput

    return LocalOutput.at(absolute(location))
