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


class PartFile:
    """A Parquet file under way in a store; small tables are gathered into large row groups."""

    def __init__(self, file: BinaryIO, schema: pa.Schema, compression: Codec) -> None:
        self._stream = _DigestStream(file)
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._stream, mode="w"),
            schema,
            compression=compression,
            use_dictionary=_texts(schema),
            column_encoding=_packed(schema),
        )
        self._schema = schema
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_bytes = 0
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Append rows; columns decoded as dictionaries become plain again."""
        plain = table if table.schema.equals(self._schema) else table.cast(self._schema)
        self._pending.append(plain)
        self._pending_rows += plain.num_rows
        self._pending_bytes += plain.nbytes
        self.rows += plain.num_rows
        if self._pending_rows >= ROW_GROUP_ROWS or self._pending_bytes >= ROW_GROUP_BYTES:
            self._write_pending()

    def finish(self, path: str, attempt: str) -> Part:
        """Write what is left and the footer, through to the disk; what the manifest says of the file."""
        self._write_pending()
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

    def _write_pending(self) -> None:
        if self._pending:
            self._writer.write_table(pa.concat_tables(self._pending), row_group_size=ROW_GROUP_ROWS)
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0


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
