"""The CUDA twins, on machines without a GPU: simulated, and compiled for compute capability 9.0."""

import os
import subprocess
import sys

import pytest

COMPILE_ALL = """
import warnings
warnings.filterwarnings("ignore")
import numpy as np
from numba import cuda, typeof, types
from kernels.gpu.traversal import add_trees
from kernels.gpu.linear import margins
from kernels.forests.traversal import NODE

def array(item, ndim):
    return types.Array(item, ndim, "C")

node = array(typeof(np.zeros(1, NODE)).dtype, 1)
single, double = types.float32, types.float64
for x, total in [(single, double), (double, double), (single, single)]:
    signature = (
        node, array(types.int64, 1), array(types.uint32, 1), array(total, 2), array(types.int32, 1),
        types.boolean, array(x, 2), array(total, 2),
    )
    ptx, _ = cuda.compile_ptx(add_trees, signature, cc=(9, 0))
    assert ".target sm_90" in ptx
    print("compiled", len(ptx))
for x in (single, double):
    signature = (array(double, 2), array(double, 1), array(x, 2), array(double, 2))
    ptx, _ = cuda.compile_ptx(margins, signature, cc=(9, 0))
    assert ".target sm_90" in ptx and "fma" not in ptx
    print("compiled", len(ptx))
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_in_the_simulator_the_twins_give_the_bits_of_the_cpu() -> None:
    done = run("-m", "pytest", "-q", "tests/kernels/gpu/twins.py", NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def test_importing_the_twins_needs_no_gpu() -> None:
    done = run("-c", "import kernels.gpu.traversal, kernels.gpu.linear", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr


def test_the_twins_compile_for_hopper() -> None:
    done = run("-c", COMPILE_ALL)
    if "DynamicLibNotFoundError" in done.stderr:
        pytest.skip("no NVVM on this platform; its wheels are for Linux on x86-64")
    assert done.stdout.count("compiled") == 5, done.stderr
