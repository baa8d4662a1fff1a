"""Kernels give the same bits on processors with narrower vectors, and use the vectors there are."""

import dataclasses
import hashlib
import os
import platform
import re
import subprocess
import sys

import llvmlite.binding
import numpy as np
import pytest

from kernels.forests.blended_trees import BlendedTrees
from kernels.forests.interleaved import Interleaved
from kernels.forests.interval_masks import IntervalMasks
from kernels.forests.traversal import Traversal
from tests.kernels.drawn_forests import Shape, random_forest, random_rows, scored, scored_by_columns

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="names x86 processors"),
]

MACHINE_HAS = llvmlite.binding.get_host_cpu_features()
NARROWER = [name for name, lacks in (("x86-64", "avx2"), ("haswell", "avx512f")) if MACHINE_HAS.get(lacks)]
DIGEST = "from tests.kernels.forests.test_processors import digest_of_scores; print(digest_of_scores())"
COMPILE = """
from numba import types
from kernels.forests.interval_masks import add_blocks
def array(kind, ndim):
    return types.Array(kind, ndim, "C")
add_blocks.compile((array(types.int64, 2), array(types.uint16, 2), array(types.uint8, 1),
                    array(types.float64, 2), types.int64, types.int64))
(code,) = add_blocks.inspect_asm().values()
print(code)
"""

COMPILE_BLENDS = """
from numba import types
from kernels.forests.blended_trees import add_groups
def array(kind, ndim):
    return types.Array(kind, ndim, "C")
bytes_ = array(types.uint8, 1)
add_groups.compile((array(types.int64, 2), bytes_, bytes_, bytes_, array(types.float64, 2), types.int64,
                    types.int64))
(code,) = add_groups.inspect_asm().values()
print(code)
"""


def run_on(processor, script, **environment):
    another = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", **environment}
    environment = {**os.environ, **another}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def digest_of_scores():
    """A digest of the bits of forests with lanes of all widths, which all kernels agree upon."""
    digest = hashlib.sha256()
    shapes = [Shape(140, max_leaves=leaves, n_thresholds=1000, n_outputs=2) for leaves in (8, 16, 32, 64)]
    shapes += [dataclasses.replace(shapes[2], symmetric=True)]
    for seed, shape in enumerate(shapes):
        random = np.random.default_rng(seed)
        forest = random_forest(shape, random)
        X = random_rows(forest, 331, np.float32, random)
        expected = scored(Traversal(forest), forest, X)
        for kind in (IntervalMasks, Interleaved, BlendedTrees):
            kernel = kind(forest, np.float32)
            for result in (scored(kernel, forest, X), scored_by_columns(kernel, forest, X)):
                assert result.tobytes() == expected.tobytes(), (kernel.name, shape)
        digest.update(expected.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("processor", NARROWER)
def test_processors_with_narrower_vectors_give_the_same_bits(processor):
    assert run_on(processor, DIGEST).strip() == digest_of_scores()


@pytest.mark.parametrize(
    ("processor", "register"), [("skylake-avx512", "zmm"), ("haswell", "ymm"), ("x86-64", "xmm")]
)
def test_masks_stay_in_the_widest_registers(processor, register, tmp_path):
    code = run_on(processor, COMPILE, NUMBA_CACHE_DIR=str(tmp_path))

    assert re.search(rf"\bv?p?and(ps|pd|d|q)?\s.*%{register}", code)
    # One lane after the other would look for the lowest bit with these.
    assert not re.search(r"\b(tzcnt|bsf|rep\s+bsf)", code)


@pytest.mark.parametrize(
    ("processor", "blend"),
    [
        ("skylake-avx512", r"vpcmp\w*ub\w* .*%k\d[\s\S]*vmovdqu8.*%zmm\d+ {%k|vpblendmb.*%zmm"),
        ("haswell", r"vpblendvb.*%ymm"),
        ("x86-64", r"pandn?.*%xmm"),
    ],
)
def test_blends_are_vectors_of_bytes(processor, blend, tmp_path):
    code = run_on(processor, COMPILE_BLENDS, NUMBA_CACHE_DIR=str(tmp_path))

    assert re.search(blend, code)
