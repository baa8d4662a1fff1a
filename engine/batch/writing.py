"""Writes the files of one attempt at one unit, and commits them with a done record.

Nobody sees an attempt before its record is there, and only the first record of a unit counts: a
worker that comes late, or twice, changes nothing.
"""

import time
import uuid
from collections import Counter

import pyarrow as pa

from engine.batch.layout import HIDDEN, PATH, REASON, ROW, SET_ASIDE, Layout, plain
from engine.batch.manifest import QUARANTINE, Done, Part
from engine.batch.part_file import ROW_GROUP_BYTES, PartFile
from engine.batch.partitions import by_partition
from engine.batch.plan import Unit
from engine.batch.records import Records
from engine.errors import ScoringFailed, StorageFailed

MOST_OPEN = 128
"""Files of a unit that are written at once; rows for more partitions go to a second file of some."""


class UnitWriter:
    """One attempt at one unit: ``read`` and ``write`` all its tables, then ``commit`` once, or ``abort``."""

    def __init__(self, records: Records, unit: Unit, layout: Layout, *, runner: str) -> None:
        self._records, self._unit, self._layout, self._runner = records, unit, layout, runner
        self._attempt = f"{unit.name}-{uuid.uuid4().hex[:12]}"
        self._files: dict[str, PartFile] = {}  # by directory, the one that was written to last being last
        self._begun: Counter[str] = Counter()
        self._parts: list[Part] = []
        self._reasons: Counter[str] = Counter()
        self._rows_in = self._rows_scored = 0
        self._started = time.monotonic()

    def read(self, n_rows: int) -> None:
        """Take note of rows of the input; those that are scored will be written."""
        self._rows_in += n_rows

    def write(self, table: pa.Table) -> None:
        """Take scored rows."""
        self._rows_scored += table.num_rows
        try:
            if REASON in table.column_names:
                table = self._sort_out_bad(table)
            for directory, rows in by_partition(table, self._layout.partition_by):
                self._append(directory, self._layout.schema, self._layout.output(rows))
        except (OSError, pa.ArrowException) as error:
            raise self._failed(error) from error

    def commit(self) -> bool:
        """Close the files, then write the done record; False if another attempt was first."""
        try:
            if not self._layout.partition_by and not self._begun[""]:
                self._file("", self._layout.schema)
            while self._files:
                self._finish(next(iter(self._files)))
        except (OSError, pa.ArrowException) as error:
            raise self._failed(error) from error
        parts = tuple(sorted(self._parts, key=lambda part: part.path))
        self._check_rows(parts)
        rows_out = sum(part.rows for part in parts if not part.is_set_aside)
        done = Done(
            self._unit.index, self._attempt, parts, self._rows_in + self._unit.passed_over, rows_out,
            self._reasons.total(),
            dict(self._reasons), round(time.monotonic() - self._started, 3),
            round(time.time(), 3), self._runner,
        )  # fmt: skip
        first = self._records.commit(done)
        self._parts = [] if first else self._parts
        self.abort()
        return first

    def abort(self) -> None:
        """Give up what is not committed, and remove its files."""
        for directory, file in self._files.items():
            file.give_up()
            self._discard(self._name(directory))
        for part in self._parts:
            self._discard(part.path)
        self._files, self._parts = {}, []

    def _check_rows(self, parts: tuple[Part, ...]) -> None:
        """Refuse to commit anything but each row once."""
        written = sum(part.rows for part in parts)
        for what, expected, found in (
            ("read", self._unit.rows, self._rows_in),
            ("written", self._rows_scored, written),
        ):
            if expected != found:
                raise ScoringFailed(f"expected {expected} rows {what} of unit {self._unit.name}, got {found}")

    def _append(self, directory: str, schema: pa.Schema, table: pa.Table) -> None:
        while table.num_rows:
            file = self._file(directory, schema)
            n_rows = file.write(table)
            table = table.slice(n_rows)
            if file.is_full:
                self._finish(directory)
        if sum(file.pending_bytes for file in self._files.values()) >= ROW_GROUP_BYTES:
            max(self._files.values(), key=lambda file: file.pending_bytes).write_row_group()

    def _file(self, directory: str, schema: pa.Schema) -> PartFile:
        """The file under way in a directory, or a new one: each has one schema."""
        file = self._files.pop(directory, None)
        if file is not None and file.schema.equals(schema):
            self._files[directory] = file
            return file
        if file is not None:
            self._files[directory] = file
            self._finish(directory)
        if len(self._files) == MOST_OPEN:
            self._finish(next(iter(self._files)))
        self._begun[directory] += 1
        stream = self._records.store.create(f"attempts/{self._attempt}/{self._name(directory)}")
        layout = self._layout
        self._files[directory] = PartFile(stream, schema, layout.compression, layout.file_bytes)
        return self._files[directory]

    def _finish(self, directory: str) -> None:
        self._parts.append(self._files[directory].finish(self._name(directory), self._attempt))
        del self._files[directory]

    def _name(self, directory: str) -> str:
        """The path of the file that was begun last in a directory."""
        return f"{directory}{self._layout.file_name(self._unit, self._begun[directory] - 1)}"

    def _discard(self, name: str) -> None:
        self._records.store.discard(f"attempts/{self._attempt}/{name}")

    def _sort_out_bad(self, table: pa.Table) -> pa.Table:
        """Count the bad rows; under quarantine move them, as they were read, to their own file."""
        reasons = table.column(REASON)
        self._reasons.update(reason for reason in reasons.to_pylist() if reason is not None)
        if not self._layout.quarantine:
            return table
        bad = table.filter(reasons.is_valid())
        kept = bad.select([name for name in bad.column_names if not name.startswith(HIDDEN)])
        for name, hidden in zip(SET_ASIDE, (PATH, ROW, REASON), strict=True):
            kept = kept.append_column(name, bad.column(hidden))
        schema = plain(kept.schema)
        self._append(f"{QUARANTINE}/", schema, kept.cast(schema))
        return table.filter(reasons.is_null())

    def _failed(self, error: Exception) -> StorageFailed | ScoringFailed:
        if isinstance(error, OSError):
            return StorageFailed(
                f"cannot write unit {self._unit.name}: {error}; the job resumes when it is called again"
            )
        return ScoringFailed(f"cannot write unit {self._unit.name}: {error}")
