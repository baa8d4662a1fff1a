"""The short ways through Arrow's streams do what pyarrow's own readers and writers do."""

import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import BodyTooLarge, InvalidRequest
from engine.realtime.doors import arrow_streams
from engine.realtime.doors.arrow_streams import (
    END,
    PREFIX,
    Stream,
    known_numbers,
    read_stream,
    stream_head,
    write_numbers,
    write_stream,
)

TABLE = pa.table(
    {"a": pa.array([1.0, None, 3.0]), "b": pa.array([1, 2, 3], pa.int16()), "c": ["x", "y", None]}
)


def one_batch(body: bytes) -> Stream:
    stream = arrow_streams._read_one_batch(body, 100)
    assert stream is not None
    return stream


def test_a_stream_of_one_batch_is_read_as_pyarrow_reads_it() -> None:
    body = write_stream(TABLE)
    for _ in range(2):
        stream = one_batch(body)
        assert pa.Table.from_batches(stream.batches, stream.schema) == pa.ipc.open_stream(body).read_all()
        assert stream.names == ["a", "b", "c"]


def test_a_stream_without_an_end_is_read_as_well() -> None:
    body = write_stream(TABLE)
    assert one_batch(body.removesuffix(END)).batches[0].num_rows == 3


@pytest.mark.parametrize(
    "table",
    [
        TABLE.slice(0, 0),
        pa.concat_tables([TABLE, TABLE]),
        TABLE.set_column(2, "c", TABLE["c"].dictionary_encode()),
        TABLE.replace_schema_metadata({"long": "x" * arrow_streams.MAX_SCHEMA_BYTES}),
    ],
    ids=["no batch", "two batches", "dictionary", "long schema"],
)
def test_any_other_stream_is_left_to_pyarrow(table: pa.Table) -> None:
    stream = read_stream(write_stream(table), 100)
    assert pa.Table.from_batches(stream.batches, stream.schema) == table


def test_numbers_in_another_byte_order_are_left_to_pyarrow() -> None:
    body = bytearray(write_stream(pa.table({"a": [1.0, 2.0]})))
    field, followed = arrow_streams._field, arrow_streams._followed
    metadata = bytes(body[PREFIX.size :])
    schema = followed(metadata, field(metadata, *struct.unpack_from("<I", metadata), 2))
    (back,) = struct.unpack_from("<i", metadata, schema)
    # The schema's first field says big where it is not 0; here it is made to mean another field's bytes.
    struct.pack_into("<H", body, PREFIX.size + schema - back + 4, field(metadata, schema, 1) - schema)
    changed = bytes(body)
    assert pa.ipc.open_stream(changed).read_all()["a"].to_pylist() != [1.0, 2.0]
    assert arrow_streams._read_one_batch(changed, 100) is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_bytes_are_read_as_pyarrow_reads_them(data: st.DataObject) -> None:
    body = bytearray(write_stream(TABLE))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    changed = bytes(body)
    try:
        expected = arrow_streams._read_batches(changed, 100)
    except (*arrow_streams.UNREADABLE, InvalidRequest, BodyTooLarge):
        with pytest.raises((InvalidRequest, BodyTooLarge)):
            read_stream(changed, 100)
        return
    found = read_stream(changed, 100)
    assert str(found.schema) == str(expected.schema)
    assert [repr(batch.to_pydict()) for batch in found.batches] == [
        repr(batch.to_pydict()) for batch in expected.batches
    ]


def test_rows_over_the_limit_are_refused_by_their_count() -> None:
    with pytest.raises(BodyTooLarge, match="3 rows, at most 2"):
        read_stream(write_stream(TABLE), 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_columns", [1, 3])
@pytest.mark.parametrize("n_rows", [1, 2, 7, 64])
def test_numbers_after_their_head_are_the_stream_that_pyarrow_writes(
    dtype: str, n_columns: int, n_rows: int
) -> None:
    names = tuple(f"score_{place}" for place in range(n_columns))
    values = np.random.default_rng(0).normal(size=(n_rows, n_columns)).astype(dtype)
    head = stream_head(names, dtype, {"model": "m"}, n_rows)
    columns = [pa.array(column) for column in values.T]
    assert write_numbers(head, values) == write_stream(
        pa.table(columns, names=list(names), metadata={"model": "m"})
    )


def floats(n_rows: int, seed: int, kind: pa.DataType) -> pa.Table:
    values = np.random.default_rng(seed).normal(size=(3, n_rows))
    return pa.table({name: pa.array(column).cast(kind) for name, column in zip("abc", values, strict=True)})


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
@pytest.mark.parametrize("n_rows", [1, 7, 64])
def test_a_stream_that_begins_like_an_earlier_one_has_its_own_numbers(kind: pa.DataType, n_rows: int) -> None:
    read_stream(write_stream(floats(n_rows, 0, kind)), 100)
    table = floats(n_rows, 1, kind)
    for body in (write_stream(table), write_stream(table).removesuffix(END)):
        numbers = known_numbers(body, 100)
        assert numbers is not None
        assert numbers.names == table.column_names
        assert numbers.values.tobytes() == np.stack([column.to_numpy() for column in table], 1).tobytes()


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        pa.table({"a": pa.array([1.0, None]), "b": [1.0, 2.0]}),
        pa.table({"a": pa.array([1.0, 2.0], pa.float32()), "b": [1.0, 2.0]}),
        pa.table({"a": [1.0, 2.0]}).slice(0, 0),
        pa.concat_tables([pa.table({"a": [1.0, 2.0]})] * 2),
    ],
    ids=["strings", "missing values", "two types", "no rows", "two batches"],
)
def test_what_more_than_the_head_decides_is_read_anew(table: pa.Table) -> None:
    body = write_stream(table)
    read_stream(body, 100)
    assert known_numbers(body, 100) is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_bytes_of_a_known_stream_are_read_as_pyarrow_reads_them(data: st.DataObject) -> None:
    body = write_stream(floats(5, 0, pa.float64()))
    read_stream(body, 100)
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(0, 2))):
        changed[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(changed[: data.draw(st.integers(len(body) - 60, len(body)))])
    numbers = known_numbers(cut, 100)
    if numbers is not None:
        expected = pa.ipc.open_stream(cut).read_all()
        assert numbers.names == expected.column_names
        assert numbers.values.tobytes() == np.stack([column.to_numpy() for column in expected], 1).tobytes()


def test_rows_over_the_limit_are_refused_in_a_known_stream_too() -> None:
    body = write_stream(floats(3, 0, pa.float32()))
    read_stream(body, 100)
    with pytest.raises(BodyTooLarge, match="3 rows, at most 2"):
        known_numbers(body, 2)


def test_a_bounded_number_of_heads_is_remembered() -> None:
    for n_rows in range(1, 2 * arrow_streams.MAX_LAYOUTS):
        read_stream(write_stream(floats(n_rows, 0, pa.float32())), 1000)
    assert 0 < len(arrow_streams._LAYOUTS) <= arrow_streams.MAX_LAYOUTS
