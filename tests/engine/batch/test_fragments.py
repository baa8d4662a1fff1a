"""Which files a location names; input that this process may not read is named, never passed over."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyarrow import fs

from engine.batch.fragments import list_files, read_footers
from engine.errors import InvalidConfig, InvalidTable, NotFound, StorageFailed
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


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("*.parquet", "abc"),
        ("[ab].parquet", "ab"),
        ("[!ab].parquet", "c"),
        ("[a-b].parq*", "ab"),
        ("?.parquet", "abc"),
    ],
)
def test_a_glob_chooses_as_a_shell_does(glob: str, names: str, data: Path) -> None:
    for name in "abc":
        write(data / f"{name}.parquet", rows(0, 10))
    assert [Path(file.path).stem for file in list_files([f"{data}/{glob}"])] == list(names)


def test_brackets_that_mean_nothing_are_refused(data: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"expected a glob, got bad character range z-a - in .*\[z-a\]"):
        list_files([f"{data}/[z-a].parquet"])


def test_a_place_that_is_not_there_is_told_from_one_without_parquet(data: Path) -> None:
    with pytest.raises(NotFound, match=r"found nothing of that name - at .*/nowhere"):
        list_files([f"{data}/nowhere"])
    (data / "_hidden.parquet").touch()
    with pytest.raises(NotFound, match=r"found none - at .*; hidden files"):
        list_files([str(data)])


def test_a_name_that_is_no_utf_8_is_refused_with_the_place(data: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    (data / "a.parquet").rename(data / os.fsdecode(b"\xfe.parquet"))
    with pytest.raises(InvalidConfig, match=r"expected names in UTF-8.*'utf-8' codec can't decode byte 0xfe"):
        list_files([str(data)])
    with pytest.raises(InvalidConfig, match=r"expected names in UTF-8.*\.*udcfe"):
        list_files([str(data / os.fsdecode(b"\xfe.parquet"))])
