"""Hypothesis strategies: a schema and an Arrow table for it, with whatever values its columns can hold."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from engine.schema import Feature, Schema

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
STRINGS = ("UA", "AA", "DL", "", "Zürich", "a longer name than fits into eight bytes")


@dataclass(frozen=True)
class Drawn:
    """A schema and a table that suits it, as one chunk per column."""

    schema: Schema
    table: pa.Table

    def rows(self) -> list[dict[str, Any]]:
        return self.table.to_pylist()


def floats_of(width: int) -> st.SearchStrategy[float]:
    edges = [0.0, -0.0, 1.0, 1e-45, 3.4e38, 1e39, -1e300, 16777217.0, 9007199254740993.0]
    if width == 32:
        edges = [float(np.float32(edge)) for edge in edges if abs(edge) < 3.5e38]
    return st.one_of(st.sampled_from(edges), st.floats(width=width))


def integers_of(name: str) -> st.SearchStrategy[int]:
    limits = np.iinfo(name)
    low, high = int(limits.min), int(limits.max)
    twice_rounded = (2**24 + 1) * 2**32 + 1  # to float32 by way of float64 it is another number
    edges = [low, high, 0, 1, min(high, 127), min(high, 2**53 + 1), min(high, twice_rounded)]
    return st.one_of(st.sampled_from(edges), st.integers(low, high))


def numeric_column(n_rows: int) -> st.SearchStrategy[pa.Array]:
    """A nullable column of any numeric type."""
    kinds = [(pa.float64(), floats_of(64)), (pa.float32(), floats_of(32))]
    kinds += [(getattr(pa, name)(), integers_of(name)) for name in INTEGERS]
    return st.sampled_from(kinds).flatmap(lambda kind: nullable(n_rows, kind[1], kind[0]))


def nullable(n_rows: int, values: st.SearchStrategy[Any], type_: pa.DataType) -> st.SearchStrategy[pa.Array]:
    lists = st.lists(st.one_of(st.none(), values, values), min_size=n_rows, max_size=n_rows)
    return lists.map(lambda drawn: pa.array(drawn, type_))


def small_integers(n_rows: int) -> st.SearchStrategy[pa.Array]:
    """Mostly inside a small integer type's range, some as floats, some no integers."""
    numbers = st.sampled_from([0, 1, 2, -1, 127, 128, 255, 256, 70000])
    floats = st.sampled_from(
        [0.0, -0.0, 1.0, 2.5, 127.0, 128.0, float("inf"), float("nan"), 2.0**63, -(2.0**63)]
    )
    return st.one_of(nullable(n_rows, numbers, pa.int64()), nullable(n_rows, floats, pa.float64()))


def category_column(n_rows: int, categories: tuple[Any, ...]) -> st.SearchStrategy[pa.Array]:
    if isinstance(categories[0], str):
        values = st.sampled_from([*categories, "never seen"])
        kinds = st.sampled_from([pa.string(), pa.large_string()])
    else:
        values = st.sampled_from([*categories, 99, 0, 1])
        kinds = st.sampled_from([pa.int64(), pa.int8(), pa.float64()])
    plain = kinds.flatmap(lambda kind: nullable(n_rows, values, kind))
    return st.tuples(plain, st.booleans()).map(
        lambda drawn: (
            drawn[0].dictionary_encode()
            if drawn[1] and categories and drawn[0].type != pa.float64()
            else drawn[0]
        )
    )


@st.composite
def column(draw: st.DrawFn, n_rows: int, place: int) -> tuple[Feature, pa.Array]:
    kind = draw(st.sampled_from(["float32", "float64", "bool", "category", *INTEGERS]))
    required = draw(st.booleans())
    if kind == "category":
        pool = draw(st.sampled_from([STRINGS, (7, 3, -4, 1)]))
        categories = tuple(draw(st.lists(st.sampled_from(pool), min_size=1, unique=True)))
        unseen = draw(st.sampled_from(["missing", "bad", "other"]))
        feature = Feature(f"x {place}", kind, categories, required, unseen)
        return feature, draw(category_column(n_rows, categories))
    feature = Feature(f"x {place}", kind, (), required)
    if kind == "bool":
        flags = nullable(n_rows, st.booleans(), pa.bool_())
        return feature, draw(st.one_of(flags, small_integers(n_rows)))
    columns = [numeric_column(n_rows)]
    if kind in INTEGERS:
        columns.append(small_integers(n_rows))
    return feature, draw(st.one_of(*columns))


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    n_rows = draw(st.integers(0, 40))
    n_features = draw(st.integers(1, 5))
    pairs = [draw(column(n_rows, place)) for place in range(n_features)]
    block = draw(st.sampled_from(["float32", "float64"]))
    names = [feature.name for feature, _ in pairs]
    schema = Schema(tuple(feature for feature, _ in pairs), block)
    return Drawn(schema, pa.Table.from_arrays([array for _, array in pairs], names=names))
