"""Which columns a feature takes, which it refuses, and what is not copied."""

import datetime
import decimal
import math

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import InvalidTable
from engine.prepare.preparer import Preparer
from engine.schema import Feature, FeatureType, Schema


def preparer(type_: FeatureType, *categories: str | int, block: str = "float64") -> Preparer:
    return Preparer(Schema((Feature("x", type_, categories),), block))  # type: ignore[arg-type]


def numbers(prepared: Preparer, array: pa.Array | pa.ChunkedArray) -> list[float]:
    columns = prepared.table(pa.table({"x": array}))
    assert not columns.bad
    return columns.arrays[0].tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_column_of_the_blocks_type_is_not_copied(dtype: type) -> None:
    values = np.arange(100, dtype=dtype)
    name = np.dtype(dtype).name
    (array,) = preparer(name, block=name).table(pa.table({"x": values}).slice(10)).arrays  # type: ignore[arg-type]
    assert np.shares_memory(array, values)
    assert array.tolist() == values[10:].tolist()


def test_chunks_of_the_blocks_type_are_joined_in_order() -> None:
    column = pa.chunked_array([[1.0, 2.0], [], [3.0, None], [5.0]])
    assert str(numbers(preparer("float64"), column)) == "[1.0, 2.0, 3.0, nan, 5.0]"


def test_a_bad_row_of_a_later_chunk_has_its_place_in_the_table() -> None:
    table = pa.table({"x": pa.chunked_array([[1, 2], [3, 300], [400]])})
    assert list(preparer("int8").table(table).bad) == [3, 4]


def test_a_column_with_nulls_leaves_the_tables_memory_alone() -> None:
    column = pa.array([1.0, None, 3.0])
    before = column.buffers()[1].to_pybytes()
    assert np.isnan(numbers(preparer("float64"), column)[1])
    assert column.buffers()[1].to_pybytes() == before


def test_a_misaligned_buffer_is_copied_to_an_aligned_one() -> None:
    buffer = pa.py_buffer(b"\0" + np.arange(4.0).tobytes()).slice(1)
    column = pa.Array.from_buffers(pa.float64(), 4, [None, buffer])
    (array,) = preparer("float64").table(pa.table({"x": column})).arrays
    assert array.flags.aligned
    assert array.tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("start", [0, 1, 7, 8, 9, 63, 64])
@pytest.mark.parametrize("stop", [64, 65, 71, 72, 100])
def test_nulls_are_found_in_any_slice(start: int, stop: int) -> None:
    values = [None if row % 3 == 0 or 20 < row < 40 else float(row) for row in range(100)]
    found = numbers(preparer("float64"), pa.array(values)[start:stop])
    assert [None if math.isnan(x) else x for x in found] == values[start:stop]


def test_a_column_of_nulls_alone_is_missing_for_any_feature() -> None:
    for prepared in (preparer("float64"), preparer("int8"), preparer("bool"), preparer("category", "a")):
        assert np.isnan(numbers(prepared, pa.nulls(3))).all()


@pytest.mark.parametrize("type_", [pa.float16(), pa.int8(), pa.uint64()])
def test_any_numeric_type_is_a_number(type_: pa.DataType) -> None:
    assert numbers(preparer("float32"), pa.array([1, 2], pa.int64()).cast(type_)) == [1.0, 2.0]


def test_booleans_are_unpacked_from_any_bit() -> None:
    flags = [row % 3 == 0 for row in range(30)]
    assert numbers(preparer("bool"), pa.array(flags)[5:]) == [float(flag) for flag in flags[5:]]


def test_dictionaries_and_runs_of_numbers_are_decoded() -> None:
    encoded = pa.array([1.5, None, 1.5]).dictionary_encode()
    assert str(numbers(preparer("float64"), encoded)) == "[1.5, nan, 1.5]"
    runs = pa.RunEndEncodedArray.from_arrays([2, 3], [1.5, None])
    assert str(numbers(preparer("float64"), runs)) == "[1.5, 1.5, nan]"


def test_every_layout_of_strings_is_a_category() -> None:
    values = ["UA", None, "AA", "a name of more than twelve bytes", "ZZ"]
    prepared = preparer("category", "AA", "UA", "a name of more than twelve bytes")
    layouts = [pa.array(values, type_) for type_ in (pa.string(), pa.large_string(), pa.string_view())]
    layouts += [layouts[0].dictionary_encode(), layouts[1].dictionary_encode().slice(0)]
    for layout in layouts:
        assert str(numbers(prepared, layout)) == "[1.0, nan, 0.0, 2.0, nan]"


def test_chunks_with_different_dictionaries_are_read_each_by_its_own() -> None:
    chunks = [pa.array(values, pa.string()).dictionary_encode() for values in (["b", "a"], ["a", "c"], [])]
    assert numbers(preparer("category", "a", "b", "c"), pa.chunked_array(chunks)) == [1.0, 0.0, 0.0, 2.0]


def test_a_dictionary_may_hold_null_itself() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["a", None]))
    assert str(numbers(preparer("category", "a"), column)) == "[0.0, nan, nan]"


def test_an_index_past_the_dictionary_reads_no_foreign_memory() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 2_000_000_000]), pa.array(["a", "b"]), safe=False)
    assert str(numbers(preparer("category", "a"), column)) == "[0.0, nan]"


def test_integer_categories_are_found_in_any_integer_type() -> None:
    prepared = preparer("category", 7, -1)
    assert numbers(prepared, pa.array([-1, 7], pa.int8())) == [1.0, 0.0]
    assert str(numbers(prepared, pa.array([2**64 - 1, 7], pa.uint64()))) == "[nan, 0.0]"
    assert str(numbers(prepared, pa.array([7.0, math.nan, None, 8.0]))) == "[0.0, nan, nan, nan]"


@pytest.mark.parametrize("category", [2**63 - 1, -(2**63)])
def test_a_number_past_the_ends_of_int64_is_not_the_category_at_the_end(category: int) -> None:
    prepared = preparer("category", category)
    assert str(numbers(prepared, pa.array([2**64 - 1, 2**63], pa.uint64()))) == "[nan, nan]"
    assert str(numbers(prepared, pa.array([1e300, -1e300, 2.0**63]))) == "[nan, nan, nan]"
    assert numbers(prepared, pa.array([category], pa.int64())) == [0.0]


def test_an_integer_category_with_a_fraction_is_bad() -> None:
    columns = preparer("category", 7).table(pa.table({"x": [7.0, 7.5]}))
    assert columns.bad == {1: "feature 'x': expected an integer, got 7.5"}


@pytest.mark.parametrize(
    ("type_", "value", "got"),
    [
        ("float64", "1.5", "string"),
        ("float64", True, "bool"),
        ("float64", b"x", "binary"),
        ("float64", [1.0], "list<item: double>"),
        ("float64", {"a": 1}, "struct<a: int64>"),
        ("int8", "1", "string"),
        ("int8", datetime.date(2013, 1, 1), "date32[day]; make a number of it as in training"),
        ("float64", datetime.datetime(2013, 1, 1), "timestamp[us]; make a number of it as in training"),
        ("float32", decimal.Decimal("1.5"), "decimal128(2, 1); cast it to double, which may round"),
        ("bool", "true", "string"),
        ("category", 1, "int64"),
        ("category", b"AA", "binary"),
    ],
)
def test_a_column_of_another_kind_is_refused_by_name(type_: FeatureType, value: object, got: str) -> None:
    with pytest.raises(InvalidTable, match="column 'x': expected") as caught:
        preparer(type_).table(pa.table({"x": [value]}))
    assert str(caught.value).endswith(f"got {got}")


def test_strings_do_not_suit_integer_categories() -> None:
    with pytest.raises(InvalidTable, match=r"column 'x': expected integers \(a category\), got string"):
        preparer("category", 1, 2).table(pa.table({"x": ["1"]}))


def test_a_missing_column_is_named_with_what_it_holds() -> None:
    with pytest.raises(InvalidTable, match=r"expected a column 'x' of numbers \(float32\), got none"):
        preparer("float32").table(pa.table({"y": [1.0]}))


def test_a_column_there_twice_is_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["x", "x"])
    with pytest.raises(InvalidTable, match=r"expected a column 'x' of .*, got 2 of that name"):
        preparer("float64").table(table)


def test_a_table_of_no_rows_is_no_error() -> None:
    for type_ in (pa.float64(), pa.int8(), pa.string(), pa.dictionary(pa.int8(), pa.string())):
        prepared = preparer("category", "a") if "string" in str(type_) else preparer("float32")
        columns = prepared.table(pa.schema([("x", type_)]).empty_table())
        assert columns.n_rows == 0
        assert columns.arrays[0].shape == (0,)


def test_a_record_batch_is_read_like_a_table() -> None:
    batch = pa.RecordBatch.from_pydict({"y": [0.0, 0.0], "x": [1.0, None]})
    (array,) = preparer("float64").table(batch).arrays
    assert str(array.tolist()) == "[1.0, nan]"
