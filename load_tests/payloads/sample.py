"""Rows for requests, drawn from a Parquet sample; columns the model does not know stay behind."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import InvalidTable, NotFound

MAX_ROWS = 20_000
"""Rows drawn from a sample at most: enough that no cache remembers the last round of them."""


def read_sample(path: str | Path, features: Sequence[str], *, max_rows: int = MAX_ROWS) -> pa.Table:
    """The first rows of a Parquet file, or of a folder's files in order, with the features as columns.

    Raises:
        NotFound: There is no Parquet file.
        InvalidTable: A needed column is missing, or there is no row.
    """
    tables: list[pa.Table] = []
    for file in parquet_files(path):
        rows_left = max_rows - sum(table.num_rows for table in tables)
        if rows_left > 0:
            tables.append(_read_file(file, features).slice(0, rows_left))
    sample = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    if not sample.num_rows:
        raise InvalidTable(f"expected rows to send, got none - in the sample {path}")
    return sample


def parquet_files(path: str | Path) -> list[Path]:
    """The Parquet files at a path, in order; raises ``NotFound`` where there is none."""
    place = Path(path)
    files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
    files = [file for file in files if file.is_file()]
    if not files:
        raise NotFound(f"expected a Parquet file or a folder of them at {path}, which holds none")
    return files


def _read_file(file: Path, features: Sequence[str]) -> pa.Table:
    try:
        found = pq.ParquetFile(file)
        present = found.schema_arrow.names
        missing = [name for name in features if name not in present]
        if missing:
            raise InvalidTable(
                f"expected a column for each feature, got none for {', '.join(missing)} - in {file}"
            )
        return found.read(columns=list(features))
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidTable(
            f"expected a Parquet file, got one that cannot be read: {error} - at {file}"
        ) from error
