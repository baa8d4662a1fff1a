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
from kernels.forests.mask_tables import BLOCK, RUN
from kernels.forests.traversal import NODE
from kernels.gpu.interval_masks import LOOKUP, add_blocks, aligned, bin_values
from kernels.gpu.linear import margins
from kernels.gpu.traversal import add_trees

def array(item, ndim):
    return types.Array(item, ndim, "C")

def records(dtype, mark=lambda array: array):
    return typeof(mark(np.zeros(1, dtype)))

def compile(kernel, *signature):
    ptx, _ = cuda.compile_ptx(kernel, signature, cc=(9, 0))
    assert ".target sm_90" in ptx
    print("compiled", kernel.__name__)
    return ptx

single, double, word, bin_ = types.float32, types.float64, types.uint64, types.uint16
for x, total in [(single, double), (double, double), (single, single)]:
    compile(
        add_trees, records(NODE), array(types.int64, 1), array(types.uint32, 1), array(total, 2),
        array(types.int32, 1), types.boolean, array(x, 2), array(total, 2),
    )
for x in (single, double):
    ptx = compile(margins, array(double, 2), array(double, 1), array(x, 2), array(double, 2))
    assert "fma" not in ptx
    compile(
        bin_values, records(LOOKUP), array(x, 1), array(bin_, 1), array(x, 1), types.int64, types.int64,
        array(bin_, 2),
    )
for total in (single, double):
    ptx = compile(
        add_blocks, records(BLOCK, aligned), records(RUN, aligned), array(word, 2), array(types.uint32, 2),
        array(bin_, 1), array(total, 1), array(total, 1), array(bin_, 2), array(total, 2),
    )
    assert "popc.b64" in ptx and "ld.shared" in ptx and "ld.global.u8" not in ptx
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
def test_in_the_simulator_the_twins_give_the_bits_of_the_cpu() -> None:
    done = run("-m", "pytest", "-q", "tests/kernels/gpu/twins.py", NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def test_importing_the_twins_needs_no_gpu() -> None:
    done = run("-c", "import kernels.gpu.choice, kernels.gpu.linear", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr


def test_the_twins_compile_for_hopper() -> None:
    done = run("-c", COMPILE_ALL)
    if "DynamicLibNotFoundError" in done.stderr:
        pytest.skip("no NVVM on this platform; its wheels are for Linux on x86-64")
    assert done.stdout.count("compiled") == 9, done.stderr
