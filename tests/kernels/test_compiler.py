import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

LEAN_START = """
import sys
import numba
import numpy as np
import kernels.compiler

assert "scipy.linalg" not in sys.modules
product = numba.njit(lambda a, b: a @ b)
assert product(2 * np.eye(2), np.ones((2, 2))).sum() == 8
assert "scipy.linalg" in sys.modules
"""
RANK = """
import numpy as np
from kernels.compiler import entry
from kernels.scores.ranking import best_outputs

scores = np.array([[0.2, 0.7, 0.1], [np.nan, 0.3, 0.5]])
outputs, best = np.empty((2, 2), np.int64), np.empty((2, 2))
entry(best_outputs, scores, outputs, best)(scores, outputs, best)  # a kernel that calls a kernel
assert outputs.tolist() == [[1, 0], [2, 1]]
"""
COMPILE_AT_LAST = """
import sys
from numba import njit

one_of_many = "numba.core.typing.cffi_utils"  # of the modules that Numba imports to compile
assert one_of_many not in sys.modules
assert njit(lambda a: a.sum())(outputs) == 4
assert one_of_many in sys.modules
"""
CALL = """
import sys
from numba.core import entrypoints

assert "numpy.ma" not in sys.modules
best_outputs(scores, outputs, best)
"""
NOTHING_ELSE = """
assert not entrypoints._already_initialized  # all installed packages, searched for extensions of Numba
"""
FULL_DISK = """
import resource

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
"""
WATCH_THE_LOCK = """
import fcntl, os, sys
from pathlib import Path

kept = []

def on_event(event, arguments):
    if event == "os.rename" and arguments[1].endswith((".nbi", ".nbc")):
        with open(Path(arguments[1]).with_name(".lock")) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                kept.append(Path(arguments[1]).suffix)

sys.addaudithook(on_event)
"""


def run(program: str, **environment: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, env=os.environ | environment)


def test_scipy_is_imported_by_who_multiplies_matrices_only() -> None:
    run(LEAN_START)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for machine code, after a process that was told of it."""
    folder = tmp_path_factory.mktemp("kept")
    run(RANK, NUMBA_CACHE_DIR=str(folder))
    return folder


def test_machine_code_is_kept_where_numba_cache_dir_says(kept: Path) -> None:
    assert list(kept.rglob("ranking.best_outputs*.nbc"))


def test_machine_code_from_disk_needs_no_compiler_and_does_not_keep_others_from_it(kept: Path) -> None:
    run(RANK + COMPILE_AT_LAST, NUMBA_CACHE_DIR=str(kept))


def test_a_first_kernel_looks_at_no_other_package(kept: Path) -> None:
    run(RANK + CALL, NUMBA_CACHE_DIR=str(kept))  # compiles it for arrays that are not borrowed
    run(RANK + CALL + NOTHING_ELSE, NUMBA_CACHE_DIR=str(kept))


def test_kernels_work_where_nothing_can_be_cached() -> None:
    run(RANK, NUMBA_CACHE_DIR="", NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator")


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no way to limit what a process writes")
def test_a_full_disk_keeps_no_machine_code_and_stops_no_kernel(tmp_path: Path) -> None:
    run(FULL_DISK + RANK, NUMBA_CACHE_DIR=str(tmp_path))
    assert not list(tmp_path.rglob("*.nbc"))


def test_machine_code_and_its_name_are_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    at_the_end = "assert kept == ['.nbi', '.nbc'] * 2, kept  # of the kernel and of the one it calls"
    run(WATCH_THE_LOCK + RANK + at_the_end, NUMBA_CACHE_DIR=str(tmp_path))
