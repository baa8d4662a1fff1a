"""The counts of all replicas of a node, in one memory-mapped file per replica.

The replicas share a port, so a scrape reaches any of them; each adds up what all have counted. A file
is locked while its replica lives. A new replica takes over a dead one's file and counts on, so that no
total ever falls; the first replica of a new engine starts from nothing.
"""

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from engine.realtime.counting.counters import CELLS_PER_MODEL, GAUGES, MOMENTS, ModelCounters

log = logging.getLogger(__name__)

MAX_REPLICAS = 1024
_LOCK = "lock"


class NodeCounters:
    """Counters by model name; with a directory, shared with every other process that has the same one.

    Args:
        models: Names; processes with other names never meet here.
        directory: From ``directory_of``; None counts in this process alone.
    """

    def __init__(self, models: Sequence[str], directory: Path | None = None) -> None:
        self._models = sorted(models)
        self._n_bytes = 8 * CELLS_PER_MODEL * max(1, len(self._models))
        self._directory = directory
        self._file: IO[bytes] | None = None
        cells = self._claimed(directory) if directory else memoryview(bytearray(self._n_bytes)).cast("q")
        self._cells = cells
        self.by_model = {
            name: ModelCounters(cells[at * CELLS_PER_MODEL : (at + 1) * CELLS_PER_MODEL])
            for at, name in enumerate(self._models)
        }

    def totals(self) -> dict[str, list[int]]:
        """Cells of every model, added over the replicas of the node."""
        self.settle()
        sums = [0] * (self._n_bytes // 8)
        for cells in self._all_cells():
            latest = {at: max(sums[at], cells[at]) for at in self._places(MOMENTS)}
            sums = [total + cell for total, cell in zip(sums, cells, strict=True)]
            for at, moment in latest.items():
                sums[at] = moment
        return {
            name: sums[at * CELLS_PER_MODEL : (at + 1) * CELLS_PER_MODEL]
            for at, name in enumerate(self._models)
        }

    def settle(self) -> None:
        """Bring the cells up to date, for the other replicas; somebody does it every second."""
        for counters in self.by_model.values():
            counters.settle()

    def close(self) -> None:
        """Let go of the file; the last replica removes them all."""
        self.settle()
        if self._file is None or self._directory is None:
            return
        with contextlib.suppress(FileNotFoundError), _locked(self._directory / _LOCK):
            fcntl.flock(self._file, fcntl.LOCK_UN)  # the map has a duplicate of the file
            self._file.close()
            self._file = None
            if not any(_is_alive(path) for path in self._files()):
                shutil.rmtree(self._directory, ignore_errors=True)

    def _claimed(self, directory: Path) -> "memoryview[int]":
        with _locked(directory / _LOCK):
            if not any(_is_alive(path) for path in self._files()):
                for path in self._files():
                    path.unlink()
            for place in range(MAX_REPLICAS):
                file = (directory / f"{place:04}.counters").open("a+b")
                if _try_lock(file):
                    break
                file.close()
            else:
                raise OSError(f"more than {MAX_REPLICAS} replicas count in {directory}")
            file.truncate(self._n_bytes)
        self._file = file
        cells = memoryview(mmap.mmap(file.fileno(), self._n_bytes)).cast("q")
        for gauge in self._places(GAUGES):
            cells[gauge] = 0
        return cells

    def _places(self, cells: Sequence[int]) -> list[int]:
        """Where these cells of a model are, for every model."""
        return [model * CELLS_PER_MODEL + cell for model in range(len(self._models)) for cell in cells]

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("*.counters")) if self._directory else []

    def _all_cells(self) -> Iterator[Sequence[int]]:
        yield self._cells
        for path in self._files():
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                if self._file is not None and os.path.sameopenfile(file.fileno(), self._file.fileno()):
                    continue
                data = file.read()
                if len(data) == self._n_bytes:
                    cells = memoryview(data).cast("q").tolist()
                    if not _is_alive(path):
                        for gauge in self._places(GAUGES):
                            cells[gauge] = 0
                    yield cells


def directory_of(port: int, models: Sequence[str]) -> Path | None:
    """Where the replicas on a port of this machine count; None where no such place can be had.

    Only this user may read or write there.
    """
    if port == 0:
        return None
    layout = hashlib.sha256(repr((CELLS_PER_MODEL, sorted(models))).encode()).hexdigest()[:12]
    directory = Path(tempfile.gettempdir()) / f"tandem-counters-{os.getuid()}-{port}-{layout}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        if directory.is_symlink() or directory.stat().st_uid != os.getuid():
            raise PermissionError(f"{directory} is somebody else's")
    except OSError as error:
        log.warning("counting in this process alone: %s", error)
        return None
    return directory


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
