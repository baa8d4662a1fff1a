"""The benchmark of the CUDA twins, on machines without a GPU: its sums, and a run in the simulator."""

import os
import subprocess
import sys

import pytest

from kernels.gpu.device import gpu_is_available
from load_tests.kernels.gpu import crossover, table

IN_THE_SIMULATOR = """
import numpy as np
from load_tests.kernels import gpu
from tests.kernels.drawn_forests import Shape, random_forest, random_rows
random = np.random.default_rng(0)
forest = random_forest(Shape(n_trees=40, max_leaves=8), random)
gpu.ROUNDS = 1
rows = random_rows(forest, 9, np.float32, random)
print(gpu.table("small", gpu.measured(gpu.forest_kernels(forest), rows, gpu.margins_of(forest), [3, 9])))
print(gpu.table("linear", gpu.linear_times([3])))
"""


@pytest.mark.parametrize(
    ("gpu_s", "rows"),
    [([9, 1, 1], 10), ([1, 9, 1], 100), ([1, 1, 9], None), ([1, 1, 1], 1), ([5, 5, 5], None)],
)
def test_the_gpu_is_faster_from_where_it_stays_so(gpu_s, rows):
    sizes = (1, 10, 100)
    assert crossover(dict.fromkeys(sizes, 5), dict(zip(sizes, gpu_s, strict=True))) == rows


def test_a_table_says_ns_per_row_and_the_crossover():
    times = {"masks": {10: 1e-6, 1000: 1e-4}, "masks (CUDA)": {10: 1e-4, 1000: 1e-5}}
    assert table("small", times).splitlines()[2:] == [
        "| masks | 100.0 | 100.0 | |",
        "| masks (CUDA) | 10,000.0 | 10.0 | 1,000 rows |",
    ]


@pytest.mark.skipif(gpu_is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_sentence():
    done = subprocess.run([sys.executable, "-m", "load_tests.kernels.gpu"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "this benchmark needs a GPU, and CUDA finds none here\n"


@pytest.mark.slow
def test_in_the_simulator_the_twins_are_compared_and_timed():
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_SIMULATOR],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    on_the_cpu, *others = [line.split("|")[1].strip() for line in done.stdout.splitlines()[2:]]
    assert on_the_cpu  # which kernel, its trial says
    assert others == [
        "binned traversal (CUDA)",
        "traversal (CUDA)",
        "linear: ns per row",
        "---",
        "linear",
        "linear (CUDA)",
    ]
