"""Output on a local (or POSIX network) disk: hidden work beside it, published by one rename.

A job works in ``.NAME.tandem/JOB/`` beside the output ``NAME``. Publishing hard-links the winning
attempts into a staged directory and renames it into place; where an output is there already, the
two are exchanged in one step (Linux ``renameat2``, macOS ``renamex_np``). On a kernel or file
system without that exchange, the old output is renamed aside first, and for that moment there is
no output; after a kill in it, the next job puts the old one back before anything else.

Since the old directory goes, an output with files that no job wrote is refused, before the first row
and once more before it is replaced.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.batch.manifest import MANIFEST, SUCCESS, JobRecord, OutputManifest, Part, decode, encode
from engine.config import Mode
from engine.errors import JobChanged, OutputExists, StorageFailed

AT_FDCWD = -100
RENAME_EXCHANGE = 2
RENAME_SWAP = 2  # the same number, by chance, in macOS
LOCK = ".lock"
"""No job has an id like it."""
ASIDE, STAGE = "replaced", "stage"
HARMLESS = ".DS_Store"
"""Made by whoever looks into a directory with macOS."""


class SyncedFile:
    """A new file whose content is on the disk once ``close`` returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=1 << 20)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._file.closed

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes."""
        return self._file.write(data)

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self._file.flush()

    def close(self) -> None:
        """Write everything through to the disk."""
        if not self._file.closed:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            finally:
                self._file.close()


@dataclass(frozen=True, slots=True)
class LocalJobStore:
    """Records and attempts below one hidden directory."""

    root: str

    def read(self, name: str) -> bytes | None:
        """A record's bytes, None if there is none."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, name: str, data: bytes) -> bool:
        """Create a record by linking a synced temporary file: whole, durable, and only once."""
        path = self._new(name)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            write_synced(temporary, data)
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise storage_failed(error, path) from error
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Write a record over the one that is there, in one step."""
        path = self._new(name)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        write_synced(temporary, data)
        os.replace(temporary, path)
        sync_directory(path.parent)

    def names(self, folder: str) -> list[str]:
        """Names of the records in a folder, without the folder."""
        try:
            return [name for name in os.listdir(self._path(folder)) if not name.startswith(".")]
        except FileNotFoundError:
            return []

    def create(self, name: str) -> BinaryIO:
        """A new file for an attempt, durable once closed."""
        path = self._new(name)
        try:
            return SyncedFile(path)  # type: ignore[return-value]
        except OSError as error:
            raise storage_failed(error, path) from error

    def discard(self, name: str) -> None:
        """Remove an attempt's file if it is there."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return Path(self.root, name)

    def _new(self, name: str) -> Path:
        """Where a file will be, its directory made; a late worker does not bring its job back."""
        path = self._path(name)
        if not os.path.isdir(self.root):
            raise JobChanged(f"the job was finished or given up meanwhile - at {self.root}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True, slots=True)
class LocalOutput:
    """A directory of Parquet files, and the hidden directory of its jobs beside it."""

    location: str

    @classmethod
    def at(cls, location: str) -> "LocalOutput":
        """The output at an absolute path; where that is a link, the directory that it leads to."""
        return cls(os.path.realpath(location) if os.path.islink(location) else location)

    def store(self, job: str) -> LocalJobStore:
        """The records of one job that writes here."""
        return LocalJobStore(str(self._work / job))

    def manifest(self) -> OutputManifest | None:
        """What is published here, None if nothing is; ``OutputExists`` if it is not ours."""
        try:
            return decode((self._final / MANIFEST).read_bytes(), self.location)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise storage_failed(error, self._final) from error
        if self._final.is_dir() and any(self._final.iterdir()):
            raise OutputExists(
                f"{self.location} holds files that no job wrote (no {MANIFEST}); choose another output"
            )
        return None

    def keeps_version(self, job: str) -> bool:  # noqa: ARG002
        """No: a directory holds what was published last."""
        return False

    def unfinished(self) -> list[str]:
        """Ids of jobs with records here that are not published."""
        try:
            return sorted(name for name in os.listdir(self._work) if name != LOCK)
        except FileNotFoundError:
            return []

    @contextmanager
    def alone(self, job: str, *, wait: bool) -> Iterator[bool]:
        """Hold the job against other drivers on this file system; False if another one has it.

        Raises ``OutputExists`` where publishing would remove a file that no job wrote.
        """
        if not self._final.exists() and any(self._asides()):
            with self._publishing():
                self._put_back()
        self.check_all_is_ours()
        directory = self._work / job
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_failed(error, directory) from error
        with (directory / LOCK).open("ab") as file:
            yield _lock(file, wait=wait)

    def publish(self, record: JobRecord, parts: Sequence[Part], mode: Mode) -> OutputManifest:
        """Make the job's parts visible, all at once; a second call changes nothing."""
        with self._publishing():
            self._put_back()
            current = self.manifest()
            if current is None or not current.holds(record.job):
                try:
                    current = self._replace(current, record, parts, mode)
                except OSError as error:
                    raise storage_failed(error, self._final) from error
        self.forget(record.job)
        return current

    def forget(self, job: str) -> None:
        """Remove the records and attempts of a job; what is published stays."""
        shutil.rmtree(self._work / job, ignore_errors=True)
        if not self._work.is_dir() or self.unfinished():
            return
        with self._publishing(), contextlib.suppress(OSError):
            (self._work / LOCK).unlink()
            self._work.rmdir()

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        """One publisher at a time; the lock file may vanish with the last job, so look twice."""
        path = self._work / LOCK
        while True:
            with path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if _is_at(file, path):
                    yield
                    return

    def _replace(
        self, current: OutputManifest | None, record: JobRecord, parts: Sequence[Part], mode: Mode
    ) -> OutputManifest:
        if current is not None and mode == "error":
            raise OutputExists(
                f"{self.location} was filled by another job meanwhile; choose another output or mode"
            )
        work = self._work / record.job
        stage = work / STAGE
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        for part in parts:
            _link(work / "attempts" / f"{part.attempt}" / part.path, stage / part.path)
        earlier = current if mode == "append" else None
        for part in earlier.parts if earlier else ():
            _link(self._final / part.path, stage / part.path)
        manifest = OutputManifest(
            (*(earlier.jobs if earlier else ()), record), (*(earlier.parts if earlier else ()), *parts)
        )
        write_synced(stage / MANIFEST, encode(manifest))
        write_synced(stage / SUCCESS, b"")
        for directory, _, _ in os.walk(stage):
            sync_directory(Path(directory))
        self.check_all_is_ours()
        move_into_place(stage, self._final)
        return manifest

    def _put_back(self) -> None:
        """Undo what a publisher was killed at that had renamed the old output aside, not yet the new one."""
        for aside in self._asides():
            if not self._final.exists() and aside.with_name(STAGE).exists():
                os.rename(aside, self._final)

    def _asides(self) -> Iterator[Path]:
        return self._work.glob(f"*/{ASIDE}")

    def check_all_is_ours(self) -> None:
        """Raise ``OutputExists`` if a file lies here that no job wrote: publishing would remove it."""
        while (manifest := self.manifest()) is not None:
            if not (foreign := _foreign(self.location, manifest)):
                return
            if manifest == self.manifest():  # else another job was published meanwhile
                raise OutputExists(
                    f"{foreign} is of no job, and would be removed when the output is replaced;"
                    " move it elsewhere, then call the job again"
                )

    @property
    def _final(self) -> Path:
        return Path(self.location)

    @property
    def _work(self) -> Path:
        return self._final.with_name(f".{self._final.name}.tandem")


def move_into_place(stage: Path, final: Path) -> None:
    """Rename a directory to ``final``; if one is there, exchange the two."""
    try:
        os.rename(stage, final)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        if not exchange(stage, final):
            os.rename(final, stage.with_name(ASIDE))
            os.rename(stage, final)
    sync_directory(final.parent)


def exchange(first: Path, second: Path) -> bool:
    """Swap two directories in one step; False where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    a, b = os.fsencode(first), os.fsencode(second)
    if sys.platform == "darwin":
        failed = libc.renamex_np(a, b, RENAME_SWAP)
    elif hasattr(libc, "renameat2"):
        failed = libc.renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE)
    else:
        return False
    code = ctypes.get_errno()
    if failed and code not in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
        raise OSError(code, os.strerror(code), str(second))
    return not failed


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file through to the disk."""
    file = SyncedFile(path)
    try:
        file.write(data)
    finally:
        file.close()


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_failed(error: OSError, path: Path) -> StorageFailed:
    """A refusal of the disk, in a sentence."""
    return StorageFailed(f"cannot write {path}: {error.strerror}; the job resumes when it is called again")


def _foreign(location: str, manifest: OutputManifest) -> str:
    """The path of a file or link in an output that its manifest does not name, empty if there is none."""
    ours = {os.path.join(location, name) for name in (MANIFEST, SUCCESS, *(p.path for p in manifest.parts))}
    for directory, folders, files in os.walk(location):
        paths = [os.path.join(directory, name) for name in files if name != HARMLESS]
        paths += filter(os.path.islink, (os.path.join(directory, name) for name in folders))
        if others := sorted(set(paths) - ours):
            return others[0]
    return ""


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV}:
            raise
        shutil.copy2(source, target)


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: correct without them, only wasteful
        return True
    return True
