from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.batch.isolation import Part
from engine.batch.job import score_files
from engine.batch.reading import Piece
from engine.batch.work import bytes_of, grouped
from engine.config import Batch
from tests.engine.batch.conftest import expected, read, rows, write

WIDE = pa.binary(5 << 20)


def part(n_rows: int, kind: pa.DataType | None = None, *, kills: bool = False) -> Part:
    value = bytes(WIDE.byte_width) if kind is WIDE else 0
    table = pa.table({"x": pa.repeat(pa.scalar(value, kind or pa.float32()), n_rows)})
    return Piece("a.parquet", 0, n_rows), table, kills


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        ([], []),
        ([part(10), part(20), part(30)], [[10, 20, 30]]),
        ([part(20_000)] * 4, [[20_000] * 3, [20_000]]),
        ([part(65_536), part(10), part(40_000), part(1)], [[65_536], [10, 40_000], [1]]),
        ([part(1), part(1, WIDE), part(1, WIDE), part(1, WIDE), part(1, WIDE)], [[1], [1] * 3, [1]]),
        ([part(5), part(1, kills=True), part(1, kills=True), part(7), part(8)], [[5], [1], [1], [7, 8]]),
        ([part(5), part(6, pa.int64()), part(7, pa.int64())], [[5], [6, 7]]),
    ],
)
def test_small_parts_of_one_schema_are_scored_together_up_to_the_size_of_a_piece(
    parts: list[Part], sizes: list[list[int]]
) -> None:
    groups = list(grouped(parts))
    assert [[piece.rows for piece, _, _ in group.parts] for group in groups] == sizes
    assert [group.rows for group in groups] == list(map(sum, sizes))
    assert [part for group in groups for part in group.parts] == parts


@pytest.mark.parametrize(("n_rows", "counted"), [(1000, 1000), (1_000_000, 10)])
def test_a_slice_counts_as_its_rows_if_what_it_is_a_slice_of_is_large(n_rows: int, counted: int) -> None:
    table = pa.table({"x": np.zeros(n_rows)})
    assert bytes_of(table) == table.nbytes == 8 * n_rows
    assert bytes_of(table.slice(5, 10)) == 8 * counted


@pytest.mark.parametrize("where", ["", "id >= 2"])
def test_a_bad_row_among_many_small_files_is_named_and_the_others_are_scored(
    bundle: str, data: Path, tmp_path: Path, where: str
) -> None:
    for start in range(0, 40, 5):
        write(data / f"{start:02d}.parquet", rows(start, 5))
    spoilt = rows(15, 5)
    write(data / "15.parquet", spoilt.set_column(1, "amount", pa.array([1.0, 2.0, None, 4.0, 5.0])))
    settings = Batch(keep=("id",), on_bad_row="quarantine", where=where)
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    scored, aside = read(tmp_path / "out"), pq.read_table(tmp_path / "out" / "_quarantine").to_pylist()
    first = 2 if where else 0
    assert scored["id"].to_pylist() == [i for i in range(first, 40) if i != 17]
    others = [i for i in range(first, 40) if not 15 <= i < 20]
    assert [s for i, s in zip(*scored.to_pydict().values(), strict=True) if i in others] == expected(others)
    assert [(row["_file"], row["_row"]) for row in aside] == [(str(data / "15.parquet"), 2)]
