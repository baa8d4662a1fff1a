"""Data becomes numbers: one set of rules for every door, so that equal rows are equal bits.

Tables come as columns, requests as rows, a matrix or tensors. A numeric value is rounded to float64,
then to its feature's type, then to the block's; a category becomes its code; null and NaN are missing.
What breaks a rule makes its row bad, for a reason in words; what cannot be read at all raises.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import InvalidRequest
from engine.prepare.buffers import Chunk, Floats
from engine.prepare.column_types import expected, place_of
from engine.prepare.columns import ColumnReader
from engine.prepare.rows import Prepared, RowReader, row_type
from engine.prepare.rules import Rule, holds_strings
from engine.prepare.samples import samples
from engine.schema import Feature, Schema

FEW_ROWS = 24
"""Tensors of so few rows are read faster row by row than column by column."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A table's features as numbers.

    Attributes:
        arrays: One per feature, contiguous [n_rows] of the block's type, NaN for a missing value;
            possibly read-only views of the table's memory. Bad rows hold unspecified numbers.
        n_rows: Rows.
        bad: Row → the reason why it is bad.
    """

    arrays: tuple[Floats, ...]
    n_rows: int
    bad: dict[int, str]


class Preparer:
    """Reads data by a schema; safe in several threads."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.row_type: type[msgspec.Struct] = row_type(schema)
        self._rules = tuple(Rule(feature) for feature in schema.features)
        self._rows = RowReader(schema, self._rules)
        self._columns = tuple(ColumnReader(rule, schema.dtype) for rule in self._rules)
        self._known: tuple[pa.Schema, tuple[int, ...]] | None = None
        self._of_strings = next((f.name for f in schema.features if _needs_strings(f)), None)
        self._names = schema.names
        self._dtype = schema.dtype
        self._kinds = tuple(map(_array_kinds, schema.features))
        self._as_is = all(_takes_any_float(feature, schema.dtype) for feature in schema.features)

    def table(self, table: pa.Table | pa.RecordBatch) -> Columns:
        """The features of a table; other columns are ignored.

        Raises:
            InvalidTable: A column is missing, there twice, or of a type that its feature does not take.
        """
        places = self._places(table.schema)
        batches = table.to_batches() if isinstance(table, pa.Table) else [table]
        if len(batches) == 1:
            columns = batches[0].columns
            arrays, bad = self._read([columns[place] for place in places], self._outs(table.num_rows))
            return Columns(arrays, table.num_rows, bad)
        return self._joined([[batch.column(place) for place in places] for batch in batches], table.num_rows)

    def rows(self, rows: Sequence[Mapping[str, object]]) -> Prepared:
        """JSON objects as a C-order block [n, F], and the bad rows with the reason.

        Null is a missing value; an absent key makes the row bad; other keys are ignored.
        """
        return self._rows.mappings(rows)

    def typed_rows(self, rows: Sequence[msgspec.Struct]) -> Prepared:
        """The same for rows decoded as ``row_type``, which is faster.

        Where decoding fails, decode without a type and call ``rows``: it names each bad row.
        """
        return self._rows.tuples(list(map(msgspec.structs.astuple, rows)))

    def matrix(self, values: NDArray[Any]) -> Prepared:
        """A numeric matrix [n, F], columns in the order of the schema, as a block.

        Raises:
            InvalidRequest: Another shape or type, or a feature's categories are strings.
        """
        self._check_matrix(values)
        if self._as_is and values.dtype == self._dtype:
            in_order = values.flags.c_contiguous and values.flags.aligned
            return values if in_order else values.copy(), {}
        if self._as_is and values.dtype.kind == "f" and values.itemsize < self._dtype.itemsize:
            return values.astype(self._dtype, order="C"), {}  # exact
        if len(values) <= FEW_ROWS:
            return self._rows.tuples(list(map(tuple, values.tolist())))
        return self._blocked([_arrow(column) for column in values.T], len(values))

    def tensors(self, tensors: Mapping[str, NDArray[Any] | list[Any]]) -> Prepared:
        """One tensor per feature as a block: 1-D NumPy arrays, or lists of what JSON holds.

        Raises:
            InvalidRequest: A tensor is absent, of another length or of a type its feature does not take.
        """
        values: list[Any] = list(map(tensors.get, self._names))
        if {*map(type, values)} != {list}:
            values = [self._tensor(column, place) for place, column in enumerate(values)]
        if len({*map(len, values)}) > 1:
            raise InvalidRequest(self._odd_length(values))
        n_rows = len(values[0]) if values else 0
        if n_rows > FEW_ROWS and all(_holds_numbers(v) for v in values):
            return self._blocked([_arrow(column) for column in values], n_rows)
        lists = [v.tolist() if isinstance(v, np.ndarray) else v for v in values]
        return self._rows.tuples(list(zip(*lists, strict=True)))

    def _odd_length(self, columns: Sequence[Any]) -> str:
        n_rows = len(columns[0])
        found = next(place for place, column in enumerate(columns) if len(column) != n_rows)
        return f"tensor '{self._names[found]}': expected {n_rows} rows, got {len(columns[found])}"

    def samples(self) -> Iterator[pa.Table]:
        """Small tables that between them take every way through the kernels, all with missing values."""
        return samples(self.schema)

    def _places(self, found: pa.Schema) -> tuple[int, ...]:
        """Where the features' columns are, all of suitable types; the last answer is remembered."""
        known = self._known
        if known is None or not known[0].equals(found):
            known = found, tuple(place_of(found, feature) for feature in self.schema.features)
            self._known = known
        return known[1]

    def _blocked(self, columns: Sequence[Chunk], n_rows: int) -> Prepared:
        arrays, bad = self._read(columns, self._outs(n_rows))
        X: Floats = np.empty((n_rows, len(columns)), self._dtype)
        for place, numbers in enumerate(arrays):
            X[:, place] = numbers
        return X, bad

    def _outs(self, n_rows: int) -> Floats:
        # One allocation: what is not written is never touched, and large ones get large pages.
        return np.empty((len(self._columns), n_rows), self._dtype)

    def _joined(self, pieces: Sequence[Sequence[Chunk]], n_rows: int) -> Columns:
        """The columns of a table in pieces, end to end."""
        outs = self._outs(n_rows)
        bad: dict[int, str] = {}
        first = 0
        for columns in pieces:
            last = first + len(columns[0])
            arrays, reasons = self._read(columns, outs[:, first:last])
            for out, numbers in zip(outs, arrays, strict=True):
                if numbers.base is not outs:
                    out[first:last] = numbers
            bad |= {first + row: reason for row, reason in reasons.items()}
            first = last
        return Columns(tuple(outs), n_rows, bad)

    def _read(self, columns: Sequence[Chunk], outs: Floats) -> tuple[tuple[Floats, ...], dict[int, str]]:
        arrays, bad = [], dict[int, str]()
        with np.errstate(over="ignore", invalid="ignore"):
            for reader, column, out in zip(self._columns, columns, outs, strict=True):
                numbers, reasons = reader.read(column, out)
                arrays.append(numbers)
                if reasons:
                    bad = reasons | bad
        return tuple(arrays), bad

    def _check_matrix(self, values: NDArray[Any]) -> None:
        n_features = len(self._names)
        if values.ndim != 2 or values.shape[1] != n_features:
            raise InvalidRequest(f"expected a matrix of shape [rows, {n_features}], got {list(values.shape)}")
        if values.dtype.kind not in "fiu":
            raise InvalidRequest(f"expected a matrix of numbers, got {values.dtype}")
        if self._of_strings is not None:
            raise InvalidRequest(
                f"the categories of feature '{self._of_strings}' are strings, which a matrix of numbers"
                " cannot hold; send one tensor per feature, or rows"
            )

    def _tensor(self, values: Any, place: int) -> Any:
        """The tensor of a feature, checked unless it is a list, whose values are."""
        if type(values) is list:
            return values
        feature = self.schema.features[place]
        if values is None:
            raise InvalidRequest(f"expected a tensor '{feature.name}' of {expected(feature)}, got none")
        if values.ndim != 1:
            raise InvalidRequest(
                f"tensor '{feature.name}': expected one value per row, got shape {list(values.shape)}"
            )
        if values.dtype.kind not in self._kinds[place]:
            raise InvalidRequest(f"tensor '{feature.name}': expected {expected(feature)}, got {values.dtype}")
        return values


def _array_kinds(feature: Feature) -> str:
    """NumPy's letters for the kinds of array that may hold the feature."""
    if _needs_strings(feature):
        return "UO"
    return "fiubO" if feature.type == "bool" else "fiuO"


def _holds_numbers(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind in "fiub"


def _arrow(values: NDArray[Any]) -> Chunk:
    """Numbers as an Arrow array of the same memory (``pa.array`` would import pandas)."""
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _needs_strings(feature: Feature) -> bool:
    return feature.type == "category" and holds_strings(feature)


def _takes_any_float(feature: Feature, dtype: np.dtype) -> bool:
    return feature.type == dtype.name and not feature.required
