"""The Arrow door: an IPC stream of a table in, an IPC stream of scores out.

The columns are the model's features, read by the same rules as Parquet. A compressed stream is
refused, because nothing bounds what it inflates to; ``Content-Encoding`` is there for that.
"""

import contextlib
from functools import lru_cache

import numpy as np
import pyarrow as pa

from engine.errors import InvalidRequest
from engine.prepare.rows import Prepared
from engine.realtime.batching.waiting import Result
from engine.realtime.doors.answers import Answer
from engine.realtime.doors.arrow_streams import (
    Stream,
    known_numbers,
    read_stream,
    stream_head,
    write_numbers,
    write_stream,
)
from engine.realtime.doors.calls import Asked, Call
from engine.realtime.serving.served import Revision, explain

ARROW_STREAM = b"application/vnd.apache.arrow.stream"
_TYPE = (b"content-type", ARROW_STREAM)


def read(revision: Revision, call: Call) -> Asked:
    """The rows of a stream; raises ``InvalidRequest`` or ``InvalidTable``."""
    X, bad = _known(revision, call) or _block(revision, read_stream(call.body, call.max_rows))
    return Asked(X, bad, call.timeout_s)


def write(revision: Revision, asked: Asked, result: Result) -> Answer:  # noqa: ARG001 the doors' one signature
    """A stream of scores, null in bad rows; the schema's metadata names revision and bad rows."""
    if result.bad or not len(result.scores):
        return Answer(200, [_TYPE], _written(revision, result))
    values = result.scores.astype(revision.output_dtype, copy=False)
    output = revision.output
    head = _head(revision.name, revision.id, output.columns, output.type, len(values))
    return Answer(200, [_TYPE], write_numbers(head, values))


def _known(revision: Revision, call: Call) -> Prepared | None:
    """The rows of a stream of the model's features, in their order, that begins like an earlier one."""
    numbers = known_numbers(call.body, call.max_rows) if revision.is_numeric else None
    if numbers is None or numbers.names != list(revision.datatypes):
        return None
    return revision.preparer.matrix(numbers.values)


def _block(revision: Revision, stream: Stream) -> Prepared:
    if len(stream.batches) == 1 and revision.is_numeric:
        with contextlib.suppress(pa.ArrowException, LookupError, TypeError, InvalidRequest):
            return _in_one_go(revision, stream.names, stream.batches[0])
    columns = revision.preparer.table(pa.Table.from_batches(stream.batches, stream.schema))
    X = np.empty((columns.n_rows, len(columns.arrays)), revision.schema.dtype)
    for place, column in enumerate(columns.arrays):
        X[:, place] = column
    return X, columns.bad


def _in_one_go(revision: Revision, names: list[str], batch: pa.RecordBatch) -> Prepared:
    """The matrix of a batch with numeric columns only; raises for any other."""
    wanted = list(revision.datatypes)
    if names != wanted:
        if len(set(names)) != len(names):
            raise KeyError("a name is there twice")
        batch = batch.select(wanted)
    return revision.preparer.matrix(batch.to_tensor(null_to_nan=True, row_major=True).to_numpy())


def _written(revision: Revision, result: Result) -> bytes:
    table = revision.scorer.tabulate(result.scores, result.bad)
    bad_rows = {"bad_rows": explain(result.bad)} if result.bad else {}
    return write_stream(table.replace_schema_metadata(_metadata(revision.name, revision.id) | bad_rows))


@lru_cache(maxsize=64)
def _head(name: str, revision: str, columns: tuple[str, ...], dtype: str, n_rows: int) -> bytes:
    """What answers of ``n_rows`` scores of a revision have in common; holds no model alive."""
    return stream_head(columns, dtype, _metadata(name, revision), n_rows)


def _metadata(name: str, revision: str) -> dict[str, str]:
    return {"model": name, "revision": revision}
