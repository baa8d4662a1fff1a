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
from kernels.forests.interleaved import FACE
from kernels.forests.traversal import NODE
from kernels.gpu import binned_traversal, linear, traversal
from kernels.gpu.device import aligned

def array(item, ndim):
    return types.Array(item, ndim, "C")

def records(dtype):
    return typeof(aligned(np.zeros(1, dtype)))

def compile(kernel, *signature):
    ptx, _ = cuda.compile_ptx(kernel, signature, cc=(9, 0))
    assert ".target sm_90" in ptx
    assert "ld.global.u8" not in ptx or kernel in WITH_BYTES  # which read rules or sets
    print("compiled", kernel.__name__)
    return ptx

WITH_BYTES = (traversal.add_trees, binned_traversal.show_faces)
single, double, word, half = types.float32, types.float64, types.uint32, types.uint16
integer = types.int64
for x in (single, double):
    ptx = compile(
        linear.margins, array(double, 2), array(double, 1), array(x, 1), integer, integer, integer,
        array(double, 2),
    )
    assert "fma" not in ptx
    compile(
        binned_traversal.show_faces, records(binned_traversal.LOOKUP), array(x, 1), array(half, 1), integer,
        records(FACE), array(types.uint8, 1), array(x, 1), integer, integer, integer, array(half, 2),
    )
for total in (single, double):
    ptx = compile(
        binned_traversal.add_trees, integer, array(types.uint64, 1), array(word, 1), array(types.int32, 1),
        array(total, 2), array(total, 1), array(half, 2), integer, array(total, 2),
    )
    assert ".local" not in ptx  # walks are in registers
for x, total in [(single, double), (double, double), (single, single)]:
    compile(
        traversal.add_trees, records(NODE), integer, array(integer, 1), array(word, 1), array(total, 2),
        array(types.int32, 1), types.boolean, array(total, 1), array(x, 1), integer, integer, integer,
        array(total, 2),
    )
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
