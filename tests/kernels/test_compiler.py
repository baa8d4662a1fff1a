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
FULL_DISK = """
import resource

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
import numpy as np
from kernels.scores.ranking import decide

scores, decisions = np.array([[0.2], [0.7]]), np.empty((2, 1), np.bool_)
decide(scores, np.array([0.5]), decisions)
assert decisions.ravel().tolist() == [False, True]
"""


def test_scipy_is_imported_by_who_multiplies_matrices_only() -> None:
    subprocess.run([sys.executable, "-c", LEAN_START], check=True)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no way to limit what a process writes")
def test_a_full_disk_keeps_no_machine_code_and_stops_no_kernel(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", FULL_DISK], check=True, env=environment)
    assert not list(tmp_path.rglob("*.nbc"))
