"""The Arrow door: an IPC stream of a table in, an IPC stream of scores out.

The columns are the model's features, read by the same rules as Parquet. A compressed stream is
refused, because nothing bounds what it inflates to; ``Content-Encoding`` is there for that.
"""

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import InvalidRequest
from engine.prepare.rows import Prepared
from engine.realtime.batching.batcher import Result
from engine.realtime.doors.answers import Answer
from engine.realtime.doors.calls import Asked, Call
from engine.realtime.doors.oip import too_many_rows
from engine.realtime.serving.served import Revision, explain

ARROW_STREAM = b"application/vnd.apache.arrow.stream"
_TYPE = (b"content-type", ARROW_STREAM)

# Places in the flatbuffers of Arrow's Message.fbs.
_HEADER_TYPE, _HEADER, _DICTIONARY_DATA, _COMPRESSION = 1, 2, 1, 3
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


def read(revision: Revision, call: Call) -> Asked:
    """The rows of a stream; raises ``InvalidRequest`` or ``InvalidTable``."""
    X, bad = _block(revision, *read_stream(call.body, call.max_rows))
    return Asked(X, bad, call.timeout_s)


def write(revision: Revision, asked: Asked, result: Result) -> Answer:  # noqa: ARG001 the doors' one signature
    """A stream of scores, null in bad rows; the schema's metadata names revision and bad rows."""
    return Answer(200, [_TYPE], _written(revision, result))


def read_stream(body: bytes, max_rows: int) -> tuple[list[pa.RecordBatch], pa.Schema]:
    """The batches of an uncompressed IPC stream, validated, with at most ``max_rows`` rows in all."""
    try:
        if any(_is_compressed(message.metadata.to_pybytes()) for message in _messages(body)):
            raise InvalidRequest(
                "the Arrow stream's buffers are compressed; send them plain, or with Content-Encoding gzip"
            )
        batches = []
        n_rows = 0
        reader = pa.ipc.open_stream(body)
        for batch in reader:
            n_rows += batch.num_rows
            if n_rows > max_rows:
                raise too_many_rows(n_rows, max_rows)
            batch.validate(full=True)
            batches.append(batch)
    except (pa.ArrowException, OSError, struct.error, IndexError) as error:
        raise InvalidRequest(f"the body is no Arrow IPC stream: {error}") from error
    return batches, reader.schema


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


def _block(revision: Revision, batches: list[pa.RecordBatch], schema: pa.Schema) -> Prepared:
    if len(batches) == 1 and revision.is_numeric:
        with contextlib.suppress(pa.ArrowException, LookupError, TypeError, InvalidRequest):
            return _in_one_go(revision, batches[0])
    columns = revision.preparer.table(pa.Table.from_batches(batches, schema))
    X = np.empty((columns.n_rows, len(columns.arrays)), revision.schema.dtype)
    for place, column in enumerate(columns.arrays):
        X[:, place] = column
    return X, columns.bad


def _in_one_go(revision: Revision, batch: pa.RecordBatch) -> Prepared:
    """The matrix of a batch with numeric columns only; raises for any other."""
    if len(set(batch.schema.names)) != batch.num_columns:
        raise KeyError("a name is there twice")
    names = list(revision.datatypes)
    chosen = batch if batch.schema.names == names else batch.select(names)
    matrix = chosen.to_tensor(null_to_nan=True, row_major=True).to_numpy()
    return revision.preparer.matrix(matrix)


def _written(revision: Revision, result: Result) -> bytes:
    table = revision.scorer.tabulate(result.scores, result.bad)
    metadata = {"model": revision.name, "revision": revision.id}
    if result.bad:
        metadata["bad_rows"] = explain(result.bad)
    table = table.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
