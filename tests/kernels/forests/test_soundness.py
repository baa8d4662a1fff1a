from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forests.soundness import fault
from tests.kernels.drawn_forests import Shape, random_forest, shapes


def sound():
    """A forest with categories whose first tree is more than a leaf."""
    forests = (
        random_forest(Shape(n_trees=4, n_outputs=2, categorical=0.5), np.random.default_rng(seed))
        for seed in range(99)
    )
    return next(forest for forest in forests if forest.feature[0] >= 0 and (forest.category_set >= 0).any())


def changed(array, place, value):
    copy = array.copy()
    copy[place] = value
    return copy


@settings(max_examples=50, deadline=None)
@given(shape=shapes, seed=st.integers(0, 2**32))
def test_every_forest_that_kernels_are_tested_with_is_sound(shape, seed):
    assert fault(random_forest(shape, np.random.default_rng(seed))) is None


FAULTS = {
    "no array of float64": lambda f: {"threshold": f.threshold.astype(np.float32)},
    "no array of int32": lambda f: {"left": f.left.reshape(-1, 1)},
    "no bool": lambda f: {"single": 1},
    "entries for": lambda f: {"rule": f.rule[:-1]},
    "outputs": lambda f: {"n_outputs": 0},
    "one number for each": lambda f: {"base": f.base[:1]},
    "tree outputs for": lambda f: {"tree_output": f.tree_output[:-1]},
    "leaves of 3 values": lambda f: {"leaf_value": np.zeros((len(f.feature), 3))},
    "an output that is not there": lambda f: {"tree_output": changed(f.tree_output, 0, 2)},
    "does not cut the nodes": lambda f: {"tree_start": changed(f.tree_start, 1, 0)},
    "tests feature 99 of 4": lambda f: {"feature": changed(f.feature, 0, 99)},
    "outside of its tree": lambda f: {"left": changed(f.left, 0, 10_000)},
    "exactly one parent": lambda f: {"left": changed(f.left, 0, f.right[0])},
    "does not cut the words": lambda f: {"set_start": changed(f.set_start, -1, 10_000)},
    "has no set": lambda f: {"category_set": np.full_like(f.category_set, 77)},
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_a_fault_is_said(sentence):
    forest = sound()
    assert sentence in (fault(replace(forest, **FAULTS[sentence](forest))) or "")
