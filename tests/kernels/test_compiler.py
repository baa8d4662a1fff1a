import subprocess
import sys

PROGRAM = """
import sys
import numba
import numpy as np
import kernels.compiler

assert "scipy.linalg" not in sys.modules
product = numba.njit(lambda a, b: a @ b)
assert product(2 * np.eye(2), np.ones((2, 2))).sum() == 8
assert "scipy.linalg" in sys.modules
"""


def test_scipy_is_imported_by_who_multiplies_matrices_only() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
