"""Arrow IPC streams in and out, by pyarrow; what repeats from request to request is kept.

A client sends the same schema each time, and streams of as many numbers differ in their values only.
So a stream of one batch is read by its batch alone, one that begins like an earlier one by its values
alone, and an answer is a known head before the scores.
"""

import contextlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import InvalidRequest
from engine.realtime.doors.oip import too_many_rows

PREFIX = struct.Struct("<Ii")
"""Before each message: the mark, and the size of its metadata."""
MARK = 0xFFFF_FFFF
END = PREFIX.pack(MARK, 0)
ALIGNMENT = 8
"""pyarrow pads each buffer to a multiple of so many bytes."""
MAX_SCHEMA_BYTES = 64 << 10
"""A longer schema is read anew each time."""
MAX_LAYOUTS = 128
"""Of so many streams it is known where their numbers are; each is as long as a schema may be."""
UNREADABLE = (pa.ArrowException, OSError, EOFError, struct.error, IndexError, UnicodeDecodeError)
"""What bytes that are no stream raise; a column's name that is no UTF-8 too."""

# Places in the flatbuffers of Arrow's Message.fbs.
_HEADER_TYPE, _HEADER, _ENDIANNESS, _DICTIONARY_DATA = 1, 2, 0, 1
_NODES, _BUFFERS, _COMPRESSION = 1, 2, 3
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_FLOATS: dict[pa.DataType, np.dtype[Any]] = {pa.float32(): np.dtype("<f4"), pa.float64(): np.dtype("<f8")}


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """A table as it came.

    Attributes:
        schema: Of all batches.
        names: Its columns, in order.
        batches: Validated.
    """

    schema: pa.Schema
    names: list[str]
    batches: list[pa.RecordBatch]


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """A table of floats of one type without missing values.

    Attributes:
        names: Its columns, in order.
        values: [n, columns], a view of the stream.
    """

    names: list[str]
    values: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Schema:
    """A schema, its columns' names, and their type where they are floats of one."""

    schema: pa.Schema
    names: list[str]
    floats: np.dtype[Any] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Where a stream has its ``Numbers``, and where it ends but for the mark of the end."""

    names: list[str]
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    start: int
    strides: tuple[int, int]
    end: int


_LAYOUTS: dict[bytes, _Layout] = {}
"""By all that a stream says before its values: it says everything of floats without missing ones."""


def known_numbers(body: bytes, max_rows: int) -> Numbers | None:
    """The numbers of a stream that begins like one that was read before; None for any other.

    Raises ``BodyTooLarge``.
    """
    layout = _LAYOUTS.get(_head(body))
    if layout is None or (len(body) != layout.end and body[layout.end :] != END):
        return None
    if layout.shape[0] > max_rows:
        raise too_many_rows(layout.shape[0], max_rows)
    values: NDArray[Any] = np.ndarray(layout.shape, layout.dtype, body, layout.start, layout.strides)
    return Numbers(layout.names, values)


def read_stream(body: bytes, max_rows: int) -> Stream:
    """An uncompressed IPC stream with at most ``max_rows`` rows in all; raises ``InvalidRequest``."""
    with contextlib.suppress(*UNREADABLE):
        stream = _read_one_batch(body, max_rows)
        if stream is not None:
            return stream
    try:
        return _read_batches(body, max_rows)
    except UNREADABLE as error:
        raise InvalidRequest(f"the body is no Arrow IPC stream: {error}") from error


def write_stream(table: pa.Table) -> bytes:
    """A table as a stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def write_numbers(head: bytes, values: NDArray[Any]) -> bytes:
    """The stream of the columns of ``values`` [n, K] with n > 0, after their ``stream_head``."""
    n_rows, n_columns = values.shape
    columns = values.T
    if missing := -n_rows % (ALIGNMENT // values.itemsize):
        columns = np.zeros((n_columns, n_rows + missing), values.dtype)
        columns[:, :n_rows] = values.T
    return b"".join((head, columns.tobytes(), END))


def stream_head(names: tuple[str, ...], dtype: str, metadata: Mapping[str, str], n_rows: int) -> bytes:
    """What a stream of ``n_rows`` > 0 without missing values says before the values.

    Args:
        names: Of the columns.
        dtype: Theirs, ``float32`` or ``float64``.
        metadata: The schema's.
        n_rows: Rows of its only batch.
    """
    zeros = np.zeros((len(names), n_rows), dtype)
    kind = pa.from_numpy_dtype(zeros.dtype)
    columns = [pa.Array.from_buffers(kind, n_rows, [None, pa.py_buffer(column)]) for column in zeros]
    stream = write_stream(pa.table(columns, names=list(names), metadata=dict(metadata)))
    return stream[: len(stream) - len(write_numbers(b"", zeros.T))]


def _read_one_batch(body: bytes, max_rows: int) -> Stream | None:
    """The stream if it is a schema and one batch without dictionaries, as most are."""
    mark, size = PREFIX.unpack_from(body)
    if mark != MARK or not 0 < size <= MAX_SCHEMA_BYTES:
        return None
    at = PREFIX.size + size
    message = pa.ipc.read_message(pa.py_buffer(memoryview(body)[at:]))
    metadata = message.metadata.to_pybytes()
    at += PREFIX.size + len(metadata) + message.body.size
    if message.type != "record batch" or _is_compressed(metadata) or body[at:] not in (b"", END):
        return None
    known = _schema(body[: PREFIX.size + size])
    if known is None:
        return None
    batch = pa.ipc.read_record_batch(message, known.schema)
    _checked(batch, batch.num_rows, max_rows)
    _remember(body, _layout(metadata, known, batch.num_rows, at - message.body.size, at))
    return Stream(known.schema, known.names, [batch])


def _head(body: bytes) -> bytes:
    """A stream up to its first buffer; empty where there is none, or it would be long."""
    try:
        _, size = PREFIX.unpack_from(body)
        _, more = PREFIX.unpack_from(body, PREFIX.size + size)
    except struct.error:
        return b""
    size += more + 2 * PREFIX.size
    return body[:size] if 0 < size <= MAX_SCHEMA_BYTES else b""


def _remember(body: bytes, layout: "_Layout | None") -> None:
    head = _head(body)
    if layout is None or not head:
        return
    if len(_LAYOUTS) >= MAX_LAYOUTS:
        _LAYOUTS.clear()
    _LAYOUTS[head] = layout


def _layout(metadata: bytes, known: _Schema, n_rows: int, start: int, end: int) -> _Layout | None:
    """Where a stream has its values if they are ``Numbers`` at even distances.

    Args:
        metadata: Of a batch's message that pyarrow has read and found valid.
        known: The schema.
        n_rows: Of the batch.
        start: Where the batch's buffers begin in the stream.
        end: Where they end.
    """
    if known.floats is None or n_rows == 0:
        return None
    (message,) = struct.unpack_from("<I", metadata)
    batch = _followed(metadata, _field(metadata, message, _HEADER))
    if any(_pairs(metadata, batch, _NODES)[1::2]):  # columns are a length and how many are missing
        return None
    offsets = _pairs(metadata, batch, _BUFFERS)[2::4]  # after each bitmap's offset and length
    distances = {after - before for before, after in pairwise(offsets)} or {0}
    if len(distances) > 1:
        return None
    shape, strides = (n_rows, len(offsets)), (known.floats.itemsize, distances.pop())
    return _Layout(known.names, known.floats, shape, start + offsets[0], strides, end)


def _pairs(metadata: bytes, table: int, place: int) -> tuple[int, ...]:
    """A flatbuffer table's vector of structs of two int64, flat."""
    vector = _followed(metadata, _field(metadata, table, place))
    (n_pairs,) = struct.unpack_from("<I", metadata, vector)
    return struct.unpack_from(f"<{2 * n_pairs}q", metadata, vector + 4)


@lru_cache(maxsize=64)
def _schema(message: bytes) -> _Schema | None:
    """The schema in a message; None for one of numbers in another byte order, which only a reader turns."""
    schema = pa.ipc.read_schema(pa.py_buffer(message))
    metadata = message[PREFIX.size :]
    (at,) = struct.unpack_from("<I", metadata)
    header = _followed(metadata, _field(metadata, at, _HEADER))
    if _field(metadata, header, _ENDIANNESS):
        return None
    kinds = set(schema.types)
    return _Schema(schema, schema.names, _FLOATS.get(kinds.pop()) if len(kinds) == 1 else None)


def _read_batches(body: bytes, max_rows: int) -> Stream:
    if any(_is_compressed(message.metadata.to_pybytes()) for message in _messages(body)):
        raise InvalidRequest(
            "the Arrow stream's buffers are compressed; send them plain, or with Content-Encoding gzip"
        )
    batches: list[pa.RecordBatch] = []
    n_rows = 0
    reader = pa.ipc.open_stream(body)
    for batch in reader:
        n_rows += batch.num_rows
        batches.append(_checked(batch, n_rows, max_rows))
    return Stream(reader.schema, reader.schema.names, batches)


def _checked(batch: pa.RecordBatch, n_rows: int, max_rows: int) -> pa.RecordBatch:
    if n_rows > max_rows:
        raise too_many_rows(n_rows, max_rows)
    batch.validate(full=True)
    return batch


def _messages(body: bytes) -> Iterator[Any]:
    try:
        yield from pa.ipc.MessageReader.open_stream(body)
    except EOFError:
        return


def _is_compressed(metadata: bytes) -> bool:
    """Whether a message's batch has the ``compression`` field."""
    (message,) = struct.unpack_from("<I", metadata, 0)
    kind_at, header_at = _field(metadata, message, _HEADER_TYPE), _field(metadata, message, _HEADER)
    kind = metadata[kind_at] if kind_at else 0
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or not header_at:
        return False
    batch = _followed(metadata, header_at)
    if kind == _DICTIONARY_BATCH:
        batch = _followed(metadata, _field(metadata, batch, _DICTIONARY_DATA))
    return _field(metadata, batch, _COMPRESSION) != 0


def _field(buffer: bytes, table: int, place: int) -> int:
    """Where a flatbuffer table has its field, 0 if it has none."""
    (back,) = struct.unpack_from("<i", buffer, table)
    vtable = table - back
    (size,) = struct.unpack_from("<H", buffer, vtable)
    if 4 + 2 * place >= size:
        return 0
    (offset,) = struct.unpack_from("<H", buffer, vtable + 4 + 2 * place)
    return table + offset if offset else 0


def _followed(buffer: bytes, at: int) -> int:
    (offset,) = struct.unpack_from("<I", buffer, at)
    return at + int(offset)
