"""What is read at once is bounded by rows and by bytes."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from engine.batch.fragments import list_files, read_footers
from engine.batch.part_file import ROW_GROUP_BYTES, PartFile
from engine.batch.plan import Options, Plan, RowGroup, units_of
from engine.batch.reading import PIECE_BYTES, PIECE_ROWS, Columns, read_unit


def pieces(data: Path, names: tuple[str, ...]) -> list[pa.Table]:
    """The tables that a job would score."""
    files = list_files([str(data)])
    footers = read_footers(fs.LocalFileSystem(), files)
    units = units_of(
        [list(map(RowGroup, footer.rows, footer.n_bytes)) for footer in footers], unit_rows=1 << 20
    )
    plan = Plan("job", "", "", (), Options(), b"", {}, files, units)
    return [
        table
        for unit in units
        for _, table in read_unit(plan, unit, fs.LocalFileSystem(), Columns(names, ()))
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
