"""Directories of partitioned outputs: every row is in exactly one, whatever its values."""

import datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch.job import score_files
from engine.batch.partitions import by_partition, has_texts
from engine.batch.reading import PIECE_ROWS
from engine.batch.verification import Verification, verify
from engine.config import Batch
from engine.errors import InvalidConfig, InvalidTable
from tests.engine.batch.conftest import read, rows, write

NAN = float("nan")
VALUES = {
    "floats": (pa.float64(), [NAN, 0.0, -0.0, 1.5, None]),
    "half floats": (pa.float16(), [NAN, 1.5, None]),
    "nanoseconds": (pa.timestamp("ns"), [0, 1, 10**18 + 1, None]),
    "a time zone": (pa.timestamp("us", "Europe/Berlin"), [0, 1, None]),
    "times": (pa.time64("ns"), [0, 1, None]),
    "durations": (pa.duration("ns"), [0, 1, 1000, None]),
    "dates": (pa.date32(), [datetime.date(2013, 7, 1), None]),
    "large integers": (pa.uint64(), [2**64 - 1, 2**63, 0, None]),
    "flags": (pa.bool_(), [True, False, None]),
    "decimals": (pa.decimal128(5, 2), [Decimal("1.20"), Decimal("-1.20"), None]),
    "texts": (pa.string(), ["", "a/b", "a=b", "%2F", "ü", "None", "null", None]),
    "text views": (pa.string_view(), ["", "a", None]),
    "dictionaries": (pa.dictionary(pa.int8(), pa.string()), ["a", "b", None]),
    "nothing": (pa.null(), [None]),
}


@pytest.mark.parametrize("case", VALUES)
def test_rows_of_every_type_are_in_exactly_one_directory(
    bundle: str, data: Path, tmp_path: Path, case: str
) -> None:
    kind, values = VALUES[case]
    column = pa.array([values[i % len(values)] for i in range(40)], kind)
    write(data / "a.parquet", rows(0, 40).append_column("by", column))
    settings = Batch(keep=("id",), partition_by=("by",))
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    parts = list((tmp_path / "out").rglob("*.parquet"))
    ids = [i for part in parts for i in pa.parquet.ParquetFile(part).read()["id"].to_pylist()]
    assert sorted(ids) == list(range(40))
    assert len(parts) == len(set(map(repr, values)))
    assert verify(str(tmp_path / "out"), n_rows=40) == Verification(40)


@given(st.lists(st.tuples(st.floats(), st.none() | st.text(max_size=3), st.none() | st.booleans())))
def test_partitions_are_all_rows_in_their_order(drawn: list[tuple[float, str | None, bool | None]]) -> None:
    floats, texts, flags = map(list, zip(*drawn, strict=True)) if drawn else ([], [], [])
    table = pa.table(
        {
            "row": pa.array(range(len(drawn)), pa.int64()),
            "f": pa.array(floats, pa.float64()),
            "t": pa.array(texts, pa.string()),
            "b": pa.array(flags, pa.bool_()),
        }
    )
    found = dict(by_partition(table, ("f", "t", "b")))
    numbers = [part["row"].to_pylist() for part in found.values()]
    assert sorted(chain.from_iterable(numbers)) == list(range(len(drawn)))
    assert all(part == sorted(part) for part in numbers)
    for part in found.values():
        texts_of = {name: {repr(value) for value in part[name].to_pylist()} for name in ("f", "t", "b")}
        assert all(len(values) <= 1 for values in texts_of.values())


def test_more_partitions_than_files_may_be_open(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 600))
    settings = Batch(partition_by=("id",), threads=1)
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    assert (result.record.rows_out, len(result.manifest.parts)) == (600, 600)


def test_a_partition_whose_file_had_to_make_room_has_a_second_one(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    n_rows = 2 * PIECE_ROWS  # which are not scored together
    by = pa.array([i % 200 for i in range(n_rows)])
    write(data / "a.parquet", rows(0, n_rows).append_column("by", by), row_group_rows=PIECE_ROWS)
    settings = Batch(keep=("id",), partition_by=("by",), threads=1)
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    assert len(result.manifest.parts) > 200
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(n_rows))
    assert verify(str(tmp_path / "out"), n_rows=n_rows) == Verification(n_rows)


@pytest.mark.parametrize("kind", [pa.binary(), pa.list_(pa.int8()), pa.struct({"a": pa.int8()})])
def test_columns_that_cannot_name_directories_are_refused_before_a_row_is_read(
    bundle: str, data: Path, tmp_path: Path, kind: pa.DataType
) -> None:
    assert not has_texts(kind)
    write(data / "a.parquet", rows(0, 10).append_column("by", pa.nulls(10, kind)))
    with pytest.raises(InvalidConfig, match="values can name directories, got 'by'"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(partition_by=("by",)))


@pytest.mark.parametrize("text", ["__HIVE_DEFAULT_PARTITION__", "x" * 300])
def test_values_that_cannot_name_directories_fail_without_being_told(
    bundle: str, data: Path, tmp_path: Path, text: str
) -> None:
    write(data / "a.parquet", rows(0, 10).append_column("by", pa.array([text] * 10)))
    with pytest.raises(InvalidTable, match="values of 'by' that can name directories") as error:
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(partition_by=("by",)))
    assert text not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Batch(partition_by=("carrier", "carrier")), "once in 'partition_by'"),
        (Batch(partition_by=("score",)), "cannot name directories: the score"),
    ],
)
def test_partitions_that_cannot_be_are_refused(
    bundle: str, data: Path, tmp_path: Path, settings: Batch, message: str
) -> None:
    write(data / "a.parquet", rows(0, 10).append_column("score", pa.array(range(10))))
    with pytest.raises(InvalidConfig, match=message):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)


def test_a_partitioned_output_may_have_no_row(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    settings = Batch(partition_by=("carrier",), where="id > 100")
    for attached in (False, True):
        result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
        assert (result.attached, result.record.rows_in, result.manifest.parts) == (attached, 10, ())
