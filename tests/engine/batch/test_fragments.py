"""Which files a location names; input that this process may not read is named, never passed over."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyarrow import fs

from engine.batch.fragments import list_files, read_footers
from engine.batch.job import score_files
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
    with pytest.raises(InvalidConfig, match=r"expected names in UTF-8.*udcfe.*surrogates not allowed"):
        list_files([str(data)])
    with pytest.raises(InvalidConfig, match=r"expected names in UTF-8.*\.*udcfe"):
        list_files([str(data / os.fsdecode(b"\xfe.parquet"))])


def names(data: Path, *locations: str) -> list[str]:
    """The files of locations below a directory, relative to it."""
    found = list_files([str(data / location) for location in locations or ("",)])
    return [str(Path(file.path).relative_to(data)) for file in found]


def test_a_link_that_leads_back_up_does_not_multiply_rows(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 600))
    write(data / "inner" / "b.parquet", rows(600, 10))
    (data / "loop").symlink_to(".")
    (data / "inner" / "up").symlink_to(data)
    assert names(data) == ["a.parquet", "inner/b.parquet"]
    assert score_files(bundle, [str(data)], str(tmp_path / "out")).record.rows_out == 610


def test_a_file_that_links_lead_to_is_read_once_by_the_first_path(data: Path) -> None:
    write(data / "old" / "a.parquet", rows(0, 10))
    (data / "latest").symlink_to("old")
    (data / "old" / "b.parquet").symlink_to("a.parquet")
    assert names(data) == ["latest/a.parquet"]
    assert names(data, "old", "latest") == ["old/a.parquet"]
    assert names(data, "*/a.parquet") == ["latest/a.parquet"]


def test_locations_that_spell_one_file_otherwise_read_it_once(data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    (tmp_path / "linked").symlink_to(data)
    assert names(data, "a.parquet", "../data/./a.parquet", "../linked", "../linked/*.parquet") == [
        "a.parquet"
    ]


def test_a_link_out_of_a_directory_is_followed(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "a.parquet", rows(0, 10))
    (data / "day=1").symlink_to(tmp_path / "elsewhere")
    (file,) = list_files([str(data)])
    assert (file.path, file.partition) == (f"{data}/day=1/a.parquet", {"day": "1"})


def test_hard_links_are_files_of_their_own(data: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    (data / "b.parquet").hardlink_to(data / "a.parquet")
    assert names(data) == ["a.parquet", "b.parquet"]


def test_a_file_in_two_partitions_is_refused(data: Path) -> None:
    write(data / "day=1" / "a.parquet", rows(0, 10))
    (data / "day=2").symlink_to("day=1")
    with pytest.raises(InvalidConfig, match=r"one partition.*'1'.*'2'.* - at .*day=2/a.*found as .*day=1/a"):
        list_files([str(data)])


def test_a_link_that_leads_nowhere_is_named(data: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    (data / "b.parquet").symlink_to("gone.parquet")
    with pytest.raises(NotFound, match=r"found nothing - at .*b.parquet; if it is a link, it leads nowhere"):
        list_files([str(data)])
