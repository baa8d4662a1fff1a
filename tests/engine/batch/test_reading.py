"""What is read at once is bounded by rows and by bytes; a footer that is known is not read again."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from engine.batch import fragments
from engine.batch.fragments import list_files, read_footers
from engine.batch.part_file import ROW_GROUP_BYTES, PartFile
from engine.batch.plan import Options, Plan, RowGroup, units_of
from engine.batch.reading import PIECE_BYTES, PIECE_ROWS, Columns, read_unit
from engine.errors import InvalidTable, JobChanged


def pieces(
    data: Path, names: tuple[str, ...], after_planning: Callable[[], None] = lambda: None
) -> list[pa.Table]:
    """The tables that a job would score."""
    files = list_files([str(data)])
    footers = read_footers(fs.LocalFileSystem(), files)
    units = units_of(
        [list(map(RowGroup, footer.rows, footer.n_bytes)) for footer in footers], unit_rows=1 << 20
    )
    plan = Plan("job", "", "", (), Options(), b"", {}, files, units)
    after_planning()
    return [
        table
        for unit in units
        for _, table in read_unit(plan, unit, fs.LocalFileSystem(), Columns(names, ()), footers)
    ]


def test_a_large_row_group_is_read_in_pieces_of_so_many_rows(data: Path) -> None:
    pq.write_table(pa.table({"id": range(2 * PIECE_ROWS + 1)}), data / "a.parquet")
    assert [table.num_rows for table in pieces(data, ("id",))] == [PIECE_ROWS, PIECE_ROWS, 1]


def test_long_texts_are_read_in_pieces_of_so_many_bytes(data: Path) -> None:
    texts = [f"{row:07d}" * 150_000 for row in range(40)]  # 1 MB each
    pq.write_table(pa.table({"id": range(40), "text": texts}), data / "a.parquet", use_dictionary=False)
    read = pieces(data, ("id", "text"))
    assert sum(table.num_rows for table in read) == 40
    assert max(table.nbytes for table in read) <= PIECE_BYTES
    assert len(pieces(data, ("id",))) == 1, "columns that are not read do not count"


def test_a_file_that_changes_while_it_is_read_is_refused(data: Path) -> None:
    path = data / "a.parquet"
    pq.write_table(pa.table({"id": range(9)}), path, row_group_size=3)
    files = list_files([str(data)])
    units = units_of([[RowGroup(3)] * 3], unit_rows=9)
    plan = Plan("job", "", "", (), Options(), b"", {}, files, units)
    read = read_unit(plan, units[0], fs.LocalFileSystem(), Columns(("id",), ()))
    next(read)
    os.utime(path, (1, 1))
    with pytest.raises(JobChanged, match="changed since the job was planned"):
        list(read)


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_changed_is_refused_though_its_footer_is_known(data: Path, change: str) -> None:
    path = data / "a.parquet"
    pq.write_table(pa.table({"id": range(9)}), path)

    def alter() -> None:
        before = path.stat()
        if change == "size":
            path.write_bytes(path.read_bytes() + b"PAR1")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (change == "time")))

    with pytest.raises(JobChanged, match=r"a.parquet changed since the job was planned"):
        pieces(data, ("id",), alter)


def test_a_known_footer_is_not_read_again(data: Path) -> None:
    path = data / "a.parquet"
    pq.write_table(pa.table({"id": range(9)}), path)

    def spoil() -> None:
        before = path.stat()
        path.write_bytes(path.read_bytes()[:-8] + bytes(8))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert pieces(data, ("id",), spoil)[0]["id"].to_pylist() == list(range(9))
    with pytest.raises(InvalidTable, match="footer cannot be read"):
        pieces(data, ("id",))


def test_footers_stay_parsed_up_to_so_many_bytes_where_a_change_would_be_seen(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        pq.write_table(pa.table({"id": range(9)}), data / f"{name}.parquet")
    files = list_files([str(data)])
    size = pq.read_metadata(data / "a.parquet").serialized_size
    monkeypatch.setattr(fragments, "PARSED_BYTES", 2 * size)
    footers = read_footers(fs.LocalFileSystem(), files)
    assert [footer.parsed is not None for footer in footers] == [True, True, False]
    assert all(footer.schema is footers[0].schema for footer in footers)
    timeless = [msgspec.structs.replace(file, mtime_ns=0) for file in files]
    assert not any(footer.parsed for footer in read_footers(fs.LocalFileSystem(), timeless))
    assert [table.num_rows for table in pieces(data, ("id",))] == [9, 9, 9]


def test_kept_texts_are_written_in_row_groups_of_so_many_bytes() -> None:
    file = io.BytesIO()
    file.close = lambda: None  # type: ignore[method-assign]
    text = pa.table({"text": pa.repeat(pa.scalar("x" * (1 << 20)), ROW_GROUP_BYTES >> 21)})
    part = PartFile(file, text.schema, "snappy")
    for _ in range(4):
        part.write(text)
    part.finish("a.parquet", "attempt")
    meta = pq.read_metadata(file)
    assert (meta.num_row_groups, meta.num_rows) == (2, 4 * text.num_rows)
