"""One Parquet file of an output: encodings that suit scores, row groups worth reading, a digest."""

import hashlib
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from engine.batch.manifest import Part
from engine.batch.plan import Codec

ROW_GROUP_ROWS = 1 << 20
ROW_GROUP_BYTES = 1 << 27
"""In memory, of what is gathered for a row group: wide kept columns make smaller ones."""
NEARLY = 0.9
"""A file this near to the size it is to have is full: what is left of it would make a tiny row group."""


class PartFile:
    """A Parquet file under way in a store; small tables are gathered into large row groups.

    Args:
        file: Where its bytes go.
        schema: Its columns.
        compression: Codec of its pages.
        file_bytes: It is full with about so many bytes; 0 for never.
    """

    def __init__(self, file: BinaryIO, schema: pa.Schema, compression: Codec, file_bytes: int = 0) -> None:
        self._stream = _DigestStream(file)
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._stream, mode="w"),
            schema,
            compression=compression,
            use_dictionary=_texts(schema),
            column_encoding=_packed(schema),
        )
        self.schema = schema
        self._file_bytes = file_bytes
        self._pending: list[pa.Table] = []
        self._pending_rows = self._written_bytes = 0
        self.pending_bytes = 0
        self.rows = 0

    @property
    def is_full(self) -> bool:
        """Whether the next rows belong into another file."""
        return bool(self._file_bytes) and self._stream.size >= NEARLY * self._file_bytes

    def write(self, table: pa.Table) -> int:
        """Append the first rows of a table, and tell how many: as many as fit into the row group under way.

        Columns decoded as dictionaries become plain again.
        """
        plain = table if table.schema.equals(self.schema) else table.cast(self.schema)
        room = self._row_group_bytes() - self.pending_bytes
        if self._file_bytes and plain.nbytes > room:
            plain = plain.slice(0, max(1, plain.num_rows * room // plain.nbytes))
        self._pending.append(plain)
        self._pending_rows += plain.num_rows
        self.pending_bytes += plain.nbytes
        self.rows += plain.num_rows
        if self._pending_rows >= ROW_GROUP_ROWS or self.pending_bytes >= NEARLY * self._row_group_bytes():
            self.write_row_group()
        return int(plain.num_rows)

    def write_row_group(self) -> None:
        """Write what was gathered."""
        if self._pending:
            self._writer.write_table(pa.concat_tables(self._pending), row_group_size=ROW_GROUP_ROWS)
            self._written_bytes += self.pending_bytes
        self._pending, self._pending_rows, self.pending_bytes = [], 0, 0

    def _row_group_bytes(self) -> int:
        """Bytes in memory that make a row group: of a file that is to be of some size, what it lacks.

        How much smaller they become shows with the first row group; it takes them for as large.
        """
        if not self._file_bytes:
            return ROW_GROUP_BYTES
        ratio = self._written_bytes / self._stream.size if self._written_bytes else 1.0
        return min(ROW_GROUP_BYTES, max(1, int(ratio * (self._file_bytes - self._stream.size))))

    def finish(self, path: str, attempt: str) -> Part:
        """Write what is left and the footer, through to the disk; what the manifest says of the file."""
        self.write_row_group()
        self._writer.close()
        self._stream.close()
        return Part(path, self.rows, self._stream.size, self._stream.digest.hexdigest(), attempt)

    def give_up(self) -> None:
        """Close without caring what is in the file."""
        for close in (self._writer.close, self._stream.close):
            try:
                close()
            except (OSError, pa.ArrowException):
                continue  # the disk said no already; nobody reads this attempt


def _texts(schema: pa.Schema) -> list[str] | bool:
    """The columns with a dictionary: strings only. On scores it costs eight times the time for nothing."""
    names = [field.name for field in schema if _is_text(field.type)]
    return names or False


def _packed(schema: pa.Schema) -> dict[str, str] | None:
    """Integers and times are packed as differences: ids that count up take about a byte."""
    names = [field.name for field in schema if pa.types.is_integer(field.type) or _is_time(field.type)]
    return dict.fromkeys(names, "DELTA_BINARY_PACKED") or None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind))


class _DigestStream:
    """Counts and digests what passes through to a store's file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        self._file.write(data)
        return len(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Nothing: ``close`` flushes and syncs."""

    def close(self) -> None:
        self._file.close()
