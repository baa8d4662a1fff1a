"""Writes the files of one attempt at one unit, and commits them with a done record.

Nobody sees an attempt before its record is there, and only the first record of a unit counts: a
worker that comes late, or twice, changes nothing.
"""

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote

import pyarrow as pa

from engine.batch.fragments import NULL_PARTITION
from engine.batch.layout import HIDDEN, PATH, REASON, ROW, Layout, plain
from engine.batch.manifest import Done
from engine.batch.part_file import PartFile
from engine.batch.plan import Unit
from engine.batch.records import Records
from engine.errors import ScoringFailed, StorageFailed

QUARANTINE = "_quarantine"


class UnitWriter:
    """One attempt at one unit: ``write`` every scored table, then ``commit`` once, or ``abort``."""

    def __init__(self, records: Records, unit: Unit, layout: Layout, *, runner: str) -> None:
        self._records, self._unit, self._layout, self._runner = records, unit, layout, runner
        self._attempt = f"{unit.name}-{uuid.uuid4().hex[:12]}"
        self._files: dict[str, PartFile] = {}
        self._reasons: Counter[str] = Counter()
        self._rows_in = 0
        self._started = time.monotonic()

    def write(self, table: pa.Table, rows_in: int) -> None:
        """Take scored rows, made from ``rows_in`` rows of the input."""
        self._rows_in += rows_in
        try:
            if REASON in table.column_names:
                table = self._sort_out_bad(table)
            for directory, rows in by_partition(table, self._layout.partition_by):
                self._file(directory, self._layout.schema).write(self._layout.output(rows))
        except (OSError, pa.ArrowException) as error:
            raise self._storage_failed(error) from error

    def commit(self) -> bool:
        """Close the files, then write the done record; False if another attempt was first."""
        if self._rows_in != self._unit.rows:
            raise ScoringFailed(
                f"expected {self._unit.rows} rows in unit {self._unit.name}, got {self._rows_in}"
            )
        try:
            if not self._layout.partition_by:
                self._file("", self._layout.schema)
            parts = tuple(self._files[name].finish(name, self._attempt) for name in sorted(self._files))
        except (OSError, pa.ArrowException) as error:
            raise self._storage_failed(error) from error
        self._files = {}
        rows_out = sum(part.rows for part in parts if not part.path.startswith(QUARANTINE))
        done = Done(
            self._unit.index, self._attempt, parts, self._rows_in + self._unit.passed_over, rows_out,
            self._reasons.total(),
            dict(self._reasons), round(time.monotonic() - self._started, 3),
            round(time.time(), 3), self._runner,
        )  # fmt: skip
        first = self._records.commit(done)
        if not first:
            self._discard([part.path for part in parts])
        return first

    def abort(self) -> None:
        """Give the attempt up and remove its files."""
        for file in self._files.values():
            file.give_up()
        self._discard(list(self._files))
        self._files = {}

    def _discard(self, names: list[str]) -> None:
        for name in names:
            self._records.store.discard(f"attempts/{self._attempt}/{name}")

    def _file(self, directory: str, schema: pa.Schema) -> PartFile:
        name = f"{directory}{self._layout.file_name(self._unit)}"
        if name not in self._files:
            stream = self._records.store.create(f"attempts/{self._attempt}/{name}")
            self._files[name] = PartFile(stream, schema, self._layout.compression)
        return self._files[name]

    def _sort_out_bad(self, table: pa.Table) -> pa.Table:
        """Count the bad rows; under quarantine move them, as they were read, to their own file."""
        reasons = table.column(REASON)
        self._reasons.update(reason for reason in reasons.to_pylist() if reason is not None)
        if not self._layout.quarantine:
            return table
        bad = table.filter(reasons.is_valid())
        kept = bad.select([name for name in bad.column_names if not name.startswith(HIDDEN)])
        for name, hidden in (("_file", PATH), ("_row", ROW), ("_reason", REASON)):
            kept = kept.append_column(name, bad.column(hidden))
        schema = plain(kept.schema)
        self._file(f"{QUARANTINE}/", schema).write(kept.cast(schema))
        return table.filter(reasons.is_null())

    def _storage_failed(self, error: Exception) -> StorageFailed:
        return StorageFailed(
            f"cannot write unit {self._unit.name}: {error}; the job resumes when it is called again"
        )


def by_partition(table: pa.Table, columns: tuple[str, ...]) -> Iterator[tuple[str, pa.Table]]:
    """The rows of every directory that some columns' values make, in the order they were read."""
    if not columns or not table.num_rows:
        yield "", table
        return
    import pyarrow.compute as pc  # here, since it takes long and few jobs need it

    for values in table.select(columns).group_by(list(columns)).aggregate([]).to_pylist():
        rows = table
        for name, value in values.items():
            rows = rows.filter(pc.field(name).is_null() if value is None else pc.field(name) == value)
        yield directory_of(values), rows


def directory_of(values: dict[str, object]) -> str:
    """``month=7/carrier=UA/``, as Hive, Spark and pyarrow read it."""
    return "".join(
        f"{quote(name, safe='')}={NULL_PARTITION if value is None else quote(str(value), safe='')}/"
        for name, value in values.items()
    )
