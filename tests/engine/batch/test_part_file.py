"""How many bytes and rows an output's files have."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.batch.job import score_files
from engine.batch.verification import Verification, verify
from engine.config import Batch
from tests.engine.batch.conftest import read, rows, write

N_ROWS = 60_000
FILE_BYTES = 100_000


def noise(seed: int) -> pa.Array:
    return pa.array(np.random.default_rng(seed).random(N_ROWS))


@pytest.mark.parametrize("compression", ["snappy", "zstd"])
@pytest.mark.parametrize(
    "kept",
    [
        pa.array(range(N_ROWS)),
        noise(1),
        pa.array([f"a text of row {i}" for i in range(N_ROWS)]),
        pa.array(["the same text"] * N_ROWS),
    ],
    ids=["numbers that count up", "noise", "texts", "one text"],
)
def test_files_have_about_the_bytes_asked_for(
    bundle: str, data: Path, tmp_path: Path, kept: pa.Array, compression: str
) -> None:
    table = rows(0, N_ROWS).append_column("kept", kept).append_column("noise", noise(2))
    write(data / "a.parquet", table, row_group_rows=N_ROWS)
    settings = Batch(keep=("id", "kept", "noise"), file_bytes=FILE_BYTES, compression=compression)  # type: ignore[arg-type]
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    *full, last = result.manifest.parts
    assert len(full) >= 4
    assert all(0.7 * FILE_BYTES < part.size < 1.3 * FILE_BYTES for part in full), [p.size for p in full]
    assert last.size < 1.3 * FILE_BYTES
    found = read(tmp_path / "out")
    assert found["id"].to_pylist() == list(range(N_ROWS))
    assert found["kept"].to_pylist() == kept.to_pylist()
    assert verify(str(tmp_path / "out"), n_rows=N_ROWS) == Verification(N_ROWS)


def test_files_of_one_unit_sort_as_their_rows_do(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, N_ROWS).append_column("noise", noise(1)), row_group_rows=N_ROWS)
    settings = Batch(keep=("id", "noise"), file_bytes=20_000)
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    assert len(result.manifest.parts) > 12
    ids = [
        i
        for part in sorted((tmp_path / "out").glob("*.parquet"))
        for i in pa.parquet.read_table(part)["id"].to_pylist()
    ]
    assert ids == list(range(N_ROWS))


def test_partitions_have_files_of_that_size_too(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, N_ROWS).append_column("noise", noise(1)), row_group_rows=N_ROWS)
    settings = Batch(keep=("id", "noise"), partition_by=("carrier",), file_bytes=FILE_BYTES)
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    assert len(result.manifest.parts) > 6
    assert max(part.size for part in result.manifest.parts) < 1.3 * FILE_BYTES
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(N_ROWS))
    assert verify(str(tmp_path / "out"), n_rows=N_ROWS) == Verification(N_ROWS)
