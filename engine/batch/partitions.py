"""Which directory a row belongs to when an output is partitioned: ``month=7/carrier=UA/``.

Rows are told apart by the text that names their directory, as Arrow writes a value: so each is in
exactly one, whatever equality means for its type (NaN, -0.0, nanoseconds).
"""

from collections.abc import Iterator, Sequence
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.batch.fragments import NULL_PARTITION
from engine.errors import InvalidTable

_VIEWED = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
"""Arrow takes no rows of views."""
MOST_BYTES = 255
"""Of a directory's name, on usual file systems."""


def has_texts(kind: pa.DataType) -> bool:
    """Whether values of a type can name directories: all but bytes, intervals and nested ones."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    refused = (pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view,
               pa.types.is_fixed_size_binary, pa.types.is_interval)  # fmt: skip
    return not any(is_refused(kind) for is_refused in refused)


def by_partition(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """The rows of every directory that some columns' values make, in the order they were read.

    Raises:
        InvalidTable: A value cannot name a directory.
    """
    if not columns or not table.num_rows:
        yield "", table
        return
    texts = [_encoded(table.column(name)) for name in columns]
    codes = np.zeros(table.num_rows, np.int64)
    for text in texts:
        codes = codes * len(text.dictionary) + np.asarray(text.indices, np.int64)
        codes = np.unique(codes, return_inverse=True)[1]  # so that the next product stays small
    for rows in _together(codes):
        first = {name: text[rows[0]].as_py() for name, text in zip(columns, texts, strict=True)}
        yield _directory(first), table if len(rows) == table.num_rows else _taken(table, rows)


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()).combine_chunks().dictionary_encode(null_encoding="encode")


def _taken(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    fields = [field.with_type(_VIEWED.get(field.type, field.type)) for field in table.schema]
    return table.cast(pa.schema(fields)).take(pa.array(rows))


def _together(codes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The places of each code, the code that comes first being the first."""
    order = np.argsort(codes, kind="stable")
    places = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    return sorted(places, key=lambda rows: int(rows[0]))


def _directory(texts: dict[str, str | None]) -> str:
    return "".join(f"{_name(column, text)}/" for column, text in texts.items())


def _name(column: str, text: str | None) -> str:
    """``carrier=UA``, as Hive, Spark and pyarrow read it."""
    if text == NULL_PARTITION:
        raise InvalidTable(
            f"expected values of '{column}' that can name directories, got the name that stands for a null"
        )
    name = f"{quote(column, safe='')}={NULL_PARTITION if text is None else quote(text, safe='')}"
    if len(name) > MOST_BYTES:
        raise InvalidTable(
            f"expected values of '{column}' that can name directories, got one of {len(name)} bytes;"
            f" at most {MOST_BYTES} are possible"
        )
    return name
