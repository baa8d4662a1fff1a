"""The promise of prepare: through every door a row is the same bits, or bad for the same reason."""

import math
from decimal import Decimal
from fractions import Fraction
from http import HTTPStatus
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.prepare.preparer import Columns, Preparer
from engine.prepare.rules import BadValue, Rule
from engine.schema import Feature, Schema
from tests.engine.prepare.drawn_tables import INTEGERS, Drawn, drawn

many = settings(max_examples=100, deadline=None)


def block_of(columns: Columns) -> np.ndarray:
    return np.stack(columns.arrays, axis=1) if columns.arrays else np.empty((columns.n_rows, 0))


def same(X: np.ndarray, Y: np.ndarray, bad: dict[int, str]) -> bool:
    """Equal bits in the rows that are not bad; every NaN is the same."""
    good = [row for row in range(len(X)) if row not in bad]
    unsigned = np.uint32 if X.dtype == np.float32 else np.uint64
    a, b = (np.where(np.isnan(Z), np.nan, Z).astype(Z.dtype)[good] for Z in (X, Y))
    return X.shape == Y.shape and X.dtype == Y.dtype and np.array_equal(a.view(unsigned), b.view(unsigned))


@many
@given(drawn())
def test_rows_equal_the_table_they_came_from(case: Drawn) -> None:
    preparer = Preparer(case.schema)
    columns = preparer.table(case.table)
    X, bad = preparer.rows(case.rows())
    assert bad == columns.bad
    assert X.dtype == case.schema.dtype
    assert X.flags.c_contiguous
    assert same(X, block_of(columns), bad)


@many
@given(drawn(), st.data())
def test_a_chunked_and_sliced_table_equals_the_whole_one(case: Drawn, data: st.DataObject) -> None:
    n_rows = case.table.num_rows
    cuts = sorted(data.draw(st.lists(st.integers(0, n_rows), max_size=4)))
    start = data.draw(st.integers(0, n_rows))
    pieces = [case.table.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, n_rows], strict=True)]
    rebuilt = [pa.Table.from_pylist(piece.to_pylist(), plain(case.table.schema)) for piece in pieces]
    encoded = [
        pa.Table.from_arrays([c.dictionary_encode() for c in t.columns], names=t.column_names)
        for t in rebuilt
    ]
    preparer = Preparer(case.schema)
    whole = preparer.table(case.table.slice(start))
    for parts in (pieces, rebuilt, encoded):
        columns = preparer.table(pa.concat_tables(parts).slice(start))
        assert columns.bad == whole.bad
        assert columns.n_rows == n_rows - start
        assert same(block_of(columns), block_of(whole), whole.bad)


@many
@given(drawn())
def test_typed_rows_equal_untyped_rows_wherever_they_decode(case: Drawn) -> None:
    preparer = Preparer(case.schema)
    text = msgspec.json.encode(case.rows())
    X, bad = preparer.typed_rows(msgspec.json.decode(text, type=list[preparer.row_type]))
    Y, worse = preparer.rows(msgspec.json.decode(text))
    assert bad == worse
    assert same(X, Y, bad)


@many
@given(drawn(), st.booleans())
def test_tensors_equal_the_table_they_came_from(case: Drawn, as_arrays: bool) -> None:
    tensors: dict[str, Any] = {name: case.table.column(name).to_pylist() for name in case.table.column_names}
    if as_arrays:
        tensors = {name: array_of(case.table.column(name)) for name in case.table.column_names}
    preparer = Preparer(case.schema)
    columns = preparer.table(case.table)
    X, bad = preparer.tensors(tensors)
    assert bad == columns.bad
    assert same(X, block_of(columns), bad)


@many
@given(st.data())
def test_a_matrix_equals_its_columns_as_a_table(data: st.DataObject) -> None:
    case = data.draw(drawn().filter(lambda case: all(map(is_numeric, case.schema.features))))
    values = np.array([[as_float(v) for v in row.values()] for row in case.rows()], np.float64)
    values = values.reshape(case.table.num_rows, len(case.schema.features))
    preparer = Preparer(case.schema)
    table = pa.Table.from_arrays([pa.array(column) for column in values.T], names=list(case.schema.names))
    columns = preparer.table(table)
    X, bad = preparer.matrix(values)
    assert bad == columns.bad
    assert same(X, block_of(columns), bad)


ODD_VALUES = (
    *(None, True, False, math.nan, math.inf, -0.0, 0, 1, 2, 1.5, 0.1, 127, 128, -129, 1e39, -1e300),
    *(2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 2.0**63, 10**400),
    *("AA", "ZZ", "1", b"1", [1], (), {}, 1j, Decimal(1), Fraction(1, 2), HTTPStatus.OK),
    *(np.float64(0.1), np.float32(0.1), np.int8(7), np.uint64(2**64 - 1), np.True_, np.nan),
)
FEATURES = [
    *(Feature("x", kind) for kind in ("float32", "float64", "bool", *INTEGERS)),
    *(Feature("x", "category", pool, unseen="other") for pool in (("AA", "UA"), (1, 7, 128))),
]


@many
@given(st.data())
def test_a_row_of_any_objects_is_what_its_rules_say(data: st.DataObject) -> None:
    drawn_features = data.draw(st.lists(st.tuples(st.sampled_from(FEATURES), st.booleans()), min_size=1))
    features = [
        msgspec.structs.replace(feature, name=f"x{place}", required=required)
        for place, (feature, required) in enumerate(drawn_features)
    ]
    schema = Schema(tuple(features), data.draw(st.sampled_from(["float32", "float64"])))
    row = {feature.name: data.draw(st.sampled_from(ODD_VALUES)) for feature in features}
    X, bad = Preparer(schema).rows([row])
    numbers, reason = by_rules(features, row)
    assert bad == ({} if reason is None else {0: reason})
    with np.errstate(over="ignore"):
        assert same(X, np.array([numbers], np.float64).astype(schema.dtype), bad)


def by_rules(features: list[Feature], row: dict[str, object]) -> tuple[list[float], str | None]:
    """The numbers of a row, rounded to their features' types, and the first reason why it is bad."""
    numbers = []
    for feature in features:
        try:
            number = Rule(feature)(row[feature.name])
        except BadValue as reason:
            return [math.nan] * len(features), str(reason)
        with np.errstate(over="ignore"):
            numbers.append(float(np.float32(number)) if feature.type == "float32" else number)
    return numbers, None


def plain(schema: pa.Schema) -> pa.Schema:
    types = [f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in schema]
    return pa.schema([pa.field(f.name, type_) for f, type_ in zip(schema, types, strict=True)])


def array_of(column: pa.ChunkedArray) -> np.ndarray:
    """As a NumPy array of the column's own type, or of objects where it has nulls or strings."""
    values = column.to_pylist()
    if column.null_count or not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        array = np.empty(len(values), object)
        array[:] = values
        return array
    return np.array(values, column.type.to_pandas_dtype())


def is_numeric(feature: Feature) -> bool:
    return not (feature.categories and isinstance(feature.categories[0], str))


def as_float(value: Any) -> float:
    return math.nan if value is None else float(value)
