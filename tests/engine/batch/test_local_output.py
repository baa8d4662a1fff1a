"""The pieces of the commit protocol on a local disk."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.batch import local_output
from engine.batch.job import score_files
from engine.batch.local_output import LocalJobStore, LocalOutput, move_into_place
from engine.config import Batch
from engine.errors import OutputExists, StorageFailed
from tests.engine.batch.conftest import hidden, read, rows, write


def test_of_many_that_create_a_record_one_wins_and_its_content_is_whole(tmp_path: Path) -> None:
    store = LocalJobStore(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.put("done/0.json", str(i).encode() * 1000), range(32)))
    assert won.count(True) == 1
    assert store.read("done/0.json") == str(won.index(True)).encode() * 1000
    assert store.names("done") == ["0.json"]


def test_a_record_that_is_not_there_reads_as_none(tmp_path: Path) -> None:
    store = LocalJobStore(str(tmp_path))
    assert store.read("done/0.json") is None
    assert store.names("done") == []


def test_a_directory_moves_to_an_empty_place_and_is_exchanged_with_a_full_one(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    move_into_place(tmp_path / "first", tmp_path / "out")
    move_into_place(tmp_path / "second", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["second"]
    assert [path.name for path in (tmp_path / "second").iterdir()] == ["first"]


@pytest.mark.parametrize("restart", [False, True])
def test_an_old_output_that_a_killed_publisher_had_renamed_aside_is_put_back(
    restart: bool, bundle: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, first in (("old", 0), ("new", 100), ("other", 200)):
        write(data / name / "a.parquet", rows(first, 100))
    settings = Batch(keep=("id",), mode="append")
    score_files(bundle, [str(data / "old")], str(tmp_path / "out"), settings=settings)

    def dying(source: Path, target: Path) -> None:
        rename(source, target)
        if target.name == local_output.ASIDE:
            raise KeyboardInterrupt

    rename = os.rename
    with monkeypatch.context() as patch:
        patch.setattr(local_output, "exchange", lambda _first, _second: False)
        patch.setattr(os, "rename", dying)
        with pytest.raises(KeyboardInterrupt):
            score_files(bundle, [str(data / "new")], str(tmp_path / "out"), settings=settings)
    assert not (tmp_path / "out").exists()
    again = "other" if restart else "new"
    score_files(bundle, [str(data / again)], str(tmp_path / "out"), settings=settings, restart=restart)
    ids = [*range(100), *(range(200, 300) if restart else range(100, 200))]
    assert read(tmp_path / "out")["id"].to_pylist() == ids
    assert not hidden(tmp_path / "out").exists()


def test_a_superseded_output_does_not_come_back_when_its_owner_removes_the_new_one(
    bundle: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, first in (("old", 0), ("new", 100), ("other", 200)):
        write(data / name / "a.parquet", rows(first, 100))
    settings = Batch(keep=("id",), mode="overwrite")
    score_files(bundle, [str(data / "old")], str(tmp_path / "out"), settings=settings)
    with monkeypatch.context() as patch:  # killed after publishing, before it has cleaned up
        patch.setattr(local_output, "exchange", lambda _first, _second: False)
        patch.setattr(LocalOutput, "forget", lambda _self, _job: None)
        score_files(bundle, [str(data / "new")], str(tmp_path / "out"), settings=settings)
    shutil.rmtree(tmp_path / "out")
    other = Batch(keep=("id",), mode="append")
    score_files(bundle, [str(data / "other")], str(tmp_path / "out"), settings=other)
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(200, 300))


def test_a_job_is_held_by_one_driver_at_a_time(tmp_path: Path) -> None:
    output = LocalOutput(str(tmp_path / "out"))
    with output.alone("job", wait=False) as first, output.alone("job", wait=False) as second:
        assert (first, second) == (True, False)
    with output.alone("job", wait=False) as third:
        assert third


FULL_DISK = """
import resource, sys
from engine.batch.job import score_files
from engine.config import Batch
from engine.errors import StorageFailed
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    score_files(sys.argv[1], [sys.argv[2]], sys.argv[3], settings=Batch(keep=("id",), unit_rows=5000))
except StorageFailed as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no way to limit what a process writes")
def test_a_full_disk_is_said_and_the_job_resumes_when_there_is_room(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 10_000), row_group_rows=5000)
    command = [sys.executable, "-c", FULL_DISK, bundle, str(data), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "the job resumes when it is called again" in done.stdout
    assert not (tmp_path / "out").exists()
    score_files(bundle, [str(data)], str(tmp_path / "out"), settings=Batch(keep=("id",), unit_rows=5000))
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(10_000))


def test_a_place_that_cannot_be_written_is_named(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StorageFailed, match="file"):
        score_files(bundle, [str(data)], str(tmp_path / "file" / "out"))


def test_an_output_that_is_a_link_is_published_where_it_leads_to(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 10))
    output = tmp_path / "out"
    output.symlink_to("far/away")
    for mode in ("error", "overwrite"):
        settings = Batch(keep=("id",), mode=mode)  # type: ignore[arg-type]
        score_files(bundle, [str(data)], str(output), settings=settings)
        assert read(output)["id"].to_pylist() == list(range(10))
        write(data / "a.parquet", rows(0, 10), row_group_rows=5)
    assert output.is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*.tandem")) == []


@pytest.mark.parametrize("mode", ["overwrite", "append"])
@pytest.mark.parametrize("name", ["NOTES.txt", "day=1/_metadata", ".hidden"])
def test_a_file_that_no_job_wrote_keeps_a_job_from_replacing_the_output(
    name: str, mode: str, bundle: str, data: Path, tmp_path: Path
) -> None:
    output, settings = tmp_path / "out", Batch(keep=("id",), mode=mode)  # type: ignore[arg-type]
    write(data / "a.parquet", rows(0, 10))
    score_files(bundle, [str(data)], str(output), settings=settings)
    write(data / "b.parquet", rows(10, 10))
    (output / name).parent.mkdir(exist_ok=True)
    (output / name).write_text("mine")
    with pytest.raises(OutputExists, match=rf"out/{name} is of no job.*move it elsewhere, then call"):
        score_files(bundle, [str(data / "b.parquet")], str(output), settings=settings)
    assert (output / name).read_text() == "mine"
    assert not hidden(output).exists(), "it was refused before anything was scored"
    (output / name).rename(tmp_path / "kept")
    score_files(bundle, [str(data / "b.parquet")], str(output), settings=settings)
    assert read(output)["id"].to_pylist()[-10:] == list(range(10, 20))


def test_a_file_that_comes_while_a_job_runs_is_not_removed_and_the_job_resumes_without_it(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    output, settings = tmp_path / "out", Batch(keep=("id",), mode="overwrite", unit_rows=100)
    write(data / "a.parquet", rows(0, 300))
    score_files(bundle, [str(data)], str(output), settings=settings)
    write(data / "a.parquet", rows(300, 300))

    @contextmanager
    def noting(_records: object, _plan: object) -> Iterator[None]:
        yield
        (output / "NOTES.txt").write_text("mine")

    with pytest.raises(OutputExists, match=r"NOTES.txt is of no job"):
        score_files(bundle, [str(data)], str(output), settings=settings, show=noting)
    (output / "NOTES.txt").rename(tmp_path / "kept")
    assert read(output)["id"].to_pylist() == list(range(300))
    result = score_files(bundle, [str(data)], str(output), settings=settings)
    assert (result.resumed, read(output)["id"].to_pylist()) == (3, list(range(300, 600)))


def test_a_done_job_is_found_again_beside_files_of_others(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 10))
    score_files(bundle, [str(data)], str(tmp_path / "out"))
    (tmp_path / "out" / "NOTES.txt").write_text("mine")
    assert score_files(bundle, [str(data)], str(tmp_path / "out")).attached
