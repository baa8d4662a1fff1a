"""Reads one unit, piece by piece: a piece is a row group, or a slice of an outsized one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from engine.batch.fragments import Footer
from engine.batch.plan import Fragment, InputFile, PartitionType, Plan, Unit
from engine.errors import InvalidTable, JobChanged

PIECE_ROWS = 1 << 16
"""Rows read at once: what is decoded is scored while it is warm, and memory does not grow with row groups.

Twice as many cost four times the system time in four reading threads, with Arrow's default allocator.
"""
PIECE_BYTES = 1 << 24
"""Bytes read at once, by the sizes in the footer: wide rows and long texts make smaller pieces."""


class Piece(msgspec.Struct, frozen=True):
    """Where the rows of a table come from.

    Attributes:
        path: File in the input.
        row: Row number in the file of the table's first row.
        rows: Rows read.
    """

    path: str
    row: int
    rows: int


@dataclass(frozen=True, slots=True)
class Columns:
    """What to read.

    Attributes:
        names: Columns of the files, in reading order.
        dictionaries: Those to decode as dictionaries: string categories are looked up per distinct value.
    """

    names: tuple[str, ...]
    dictionaries: tuple[str, ...]


def read_unit(
    plan: Plan, unit: Unit, filesystem: fs.FileSystem, columns: Columns, footers: Sequence[Footer] = ()
) -> Iterator[tuple[Piece, pa.Table]]:
    """The tables of a unit, none of them empty, and where they come from.

    Args:
        plan: The plan that the unit is of.
        unit: What to read.
        filesystem: Where its files are.
        columns: What to read of them.
        footers: Those of the plan's files, if they are known.

    Raises:
        InvalidTable: A page cannot be read (names file and row group).
        JobChanged: A file is not the one that was planned.
    """
    for fragment in unit.fragments:
        file = plan.files[fragment.file]
        partition = partition_values(file, plan.partition_types)
        parsed = footers[fragment.file].parsed if footers else None
        for row, table in _read_fragment(filesystem, file, fragment, columns, parsed):
            for name, scalar in partition.items():
                table = table.append_column(name, pa.repeat(scalar, table.num_rows))
            yield Piece(file.path, row, table.num_rows), table


def _read_fragment(
    filesystem: fs.FileSystem,
    file: InputFile,
    fragment: Fragment,
    columns: Columns,
    parsed: pq.FileMetaData | None,
) -> Iterator[tuple[int, pa.Table]]:
    if not fragment.rows:
        return
    with _open(filesystem, file, columns.dictionaries, parsed) as parquet:
        row = sum(parquet.metadata.row_group(index).num_rows for index in range(fragment.first))
        left = fragment.rows
        for table in _read_groups(parquet, file, fragment, columns.names):
            if table.num_rows and left:
                table = table if table.num_rows <= left else table.slice(0, left)
                yield row, table
                row += table.num_rows
                left -= table.num_rows
    _check_unchanged(filesystem, file)  # not rewritten in place meanwhile either
    if left:
        raise InvalidTable(
            f"expected {fragment.rows} rows, got {fragment.rows - left} - at {_place(file, fragment)}"
        )


def _read_groups(
    parquet: pq.ParquetFile, file: InputFile, fragment: Fragment, names: Sequence[str]
) -> Iterator[pa.Table]:
    for index in range(fragment.first, fragment.stop):
        try:
            group = parquet.metadata.row_group(index)
            piece_rows = rows_at_once(group, names)
            if group.num_rows <= piece_rows:
                yield parquet.read_row_group(index, columns=list(names), use_threads=False)
                continue
            for batch in parquet.iter_batches(piece_rows, [index], list(names), use_threads=False):
                yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise InvalidTable(
                f"expected intact pages, got some that cannot be read - at {file.path}, row group {index}:"
                f" {error}; write the file again, then call the job again"
            ) from error


def rows_at_once(group: pq.RowGroupMetaData, names: Sequence[str]) -> int:
    """How many rows of a row group's columns make a piece, one at least."""
    if group.total_byte_size <= PIECE_BYTES:
        return PIECE_ROWS
    columns = [group.column(index) for index in range(group.num_columns)]
    n_bytes = sum(
        column.total_uncompressed_size
        for column in columns
        if column.path_in_schema in names or column.path_in_schema.split(".")[0] in names
    )
    return max(1, min(PIECE_ROWS, PIECE_BYTES * group.num_rows // max(n_bytes, 1)))


def _open(
    filesystem: fs.FileSystem, file: InputFile, dictionaries: Sequence[str], parsed: pq.FileMetaData | None
) -> pq.ParquetFile:
    _check_unchanged(filesystem, file)
    try:
        if isinstance(filesystem, fs.LocalFileSystem):
            # Mapped, not copied: a third of reading's time. A file cut short while it is read kills
            # the process by SIGBUS; what it had finished is kept, as after any death.
            # Nor read ahead: half of a small file's time went by while another thread was handed the range.
            mapped = pa.memory_map(file.path)
            return pq.ParquetFile(mapped, metadata=parsed, read_dictionary=dictionaries, pre_buffer=False)
        source = filesystem.open_input_file(file.path)
        return pq.ParquetFile(source, metadata=parsed, read_dictionary=dictionaries, pre_buffer=True)
    except (pa.ArrowException, OSError) as error:
        raise InvalidTable(
            f"expected a Parquet file, got one that cannot be opened - at {file.path}: {error}"
        ) from error


def _check_unchanged(filesystem: fs.FileSystem, file: InputFile) -> None:
    info = filesystem.get_file_info(file.path)
    if (info.size, info.mtime_ns or 0) != (file.size, file.mtime_ns):
        found = f"{info.size} bytes" if info.type == fs.FileType.File else "nothing"
        raise JobChanged(
            f"{file.path} changed since the job was planned: expected the same time and {file.size} bytes,"
            f" found {found}; put it back, or start again with --restart"
        )


def partition_values(file: InputFile, types: Mapping[str, PartitionType]) -> dict[str, pa.Scalar]:
    """What a file's directories say of its rows, by column, of the type that the job gives the column."""
    found = {}
    for name, type_name in types.items():
        value = file.partition.get(name)
        typed = int(value) if value is not None and type_name == "int64" else value
        found[name] = pa.scalar(typed, type=pa.int64() if type_name == "int64" else pa.string())
    return found


def _place(file: InputFile, fragment: Fragment) -> str:
    return f"{file.path}, row groups {fragment.first} to {fragment.stop - 1}"
