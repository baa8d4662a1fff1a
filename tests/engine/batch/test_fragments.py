"""Input that this process may not read is named, never passed over."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyarrow import fs

from engine.batch.fragments import list_files, read_footers
from engine.errors import InvalidTable, StorageFailed
from tests.engine.batch.conftest import rows, write

NOBODY = 65534


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user to whom permissions apply; root reads everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_directory_that_may_not_be_listed_is_named(data: Path) -> None:
    write(data / "day=1" / "a.parquet", rows(0, 10))
    write(data / "day=2" / "a.parquet", rows(0, 10))
    (data / "day=2").chmod(0)
    try:
        with without_rights(), pytest.raises(StorageFailed, match=f"cannot list {data}.*Permission denied"):
            list_files([str(data)])
    finally:
        (data / "day=2").chmod(0o700)


def test_a_file_that_may_not_be_read_is_named(data: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    files = list_files([str(data)])
    (data / "a.parquet").chmod(0)
    with without_rights(), pytest.raises(InvalidTable, match=r"at .*a.parquet.*Permission denied"):
        read_footers(fs.LocalFileSystem(), files)
