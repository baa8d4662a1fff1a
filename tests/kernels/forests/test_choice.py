"""The choice of a kernel changes the time a score takes, never the score."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forests import choice as module
from kernels.forests.blended_trees import BlendedTrees
from kernels.forests.choice import TRIAL_SECONDS, Choice, choose, fastest, likely_rows
from kernels.forests.dispatch import BATCH_ROWS
from kernels.forests.interleaved import Interleaved
from kernels.forests.interval_masks import IntervalMasks
from kernels.forests.traversal import Traversal
from tests.kernels.drawn_forests import (
    Shape,
    chains_of,
    random_forest,
    random_rows,
    scored,
    scored_by_columns,
    shapes,
)
from tests.reference import bits


@settings(max_examples=25, deadline=None)
@given(shape=shapes, seed=st.integers(0, 2**32))
def test_whatever_is_chosen_has_the_bits_of_the_plain_traversal(shape, seed):
    random = np.random.default_rng(seed)
    forest = random_forest(shape, random)
    kernel = choose(forest, np.float32)

    for n_rows in (1, 65, 1030):
        X = random_rows(forest, n_rows, np.float32, random)
        expected = bits(scored(Traversal(forest), forest, X))
        assert bits(scored(kernel, forest, X)) == expected
        assert bits(scored_by_columns(kernel, forest, X)) == expected


def test_few_rows_of_small_trees_are_scored_by_interval_masks():
    forest = random_forest(Shape(n_trees=140, max_leaves=32), np.random.default_rng(0))

    assert choose(forest, np.float32).kernel_for(1).name == "interval masks"


def test_few_rows_of_large_trees_are_scored_by_interleaved_traversal():
    forest = chains_of(np.arange(1000.0), 100)

    assert choose(forest, np.float32).kernel_for(1).name == "interleaved traversal"


def test_many_rows_of_many_features_are_scored_by_blended_trees():
    forest = random_forest(Shape(n_trees=140, max_leaves=32, n_features=100), np.random.default_rng(0))

    assert choose(forest, np.float32).kernel_for(1024).name == "blended trees"


def test_trees_too_large_for_masks_and_blends_are_walked():
    forest = chains_of(np.arange(3000.0), 300)

    assert choose(forest, np.float32).name == "interleaved traversal"


def test_a_forest_that_fits_no_table_is_walked():
    forest = random_forest(Shape(n_features=1, categorical=1.0), np.random.default_rng(0))
    n_words = 2**22 + 1
    forest = dataclasses.replace(
        forest,
        set_start=np.array([0, 1, 2, 3, 4, 5, 5 + n_words]),
        set_words=np.zeros(5 + n_words, np.uint32),
    )

    assert choose(forest, np.float32).name == "traversal"


@pytest.mark.parametrize(
    ("n_rows", "expected"),
    [(0, 0), (1, 0), (31, 0), (32, 1), (63, 1), (64, 2), (255, 2), (256, 3), (10**6, 3)],
)
def test_a_batch_is_scored_by_the_winner_at_the_largest_size_it_reaches(n_rows, expected):
    forest = random_forest(Shape(), np.random.default_rng(0))
    kinds = (Interleaved, IntervalMasks, BlendedTrees)
    kernels = [Traversal(forest), *(kind(forest, np.float32) for kind in kinds)]
    choice = Choice(dict(zip(BATCH_ROWS, kernels, strict=True)))

    assert choice.kernel_for(n_rows) is kernels[expected]


def test_kernels_without_tables_are_found_by_the_size_of_a_batch_too():
    forest = random_forest(Shape(), np.random.default_rng(0))
    traversal, masks = Traversal(forest), IntervalMasks(forest, np.float32)
    choice = Choice(dict(zip(BATCH_ROWS, (traversal, masks, traversal, masks), strict=True)))

    for n_rows in (1, 40, 70):
        X = random_rows(forest, n_rows, np.float32, np.random.default_rng(1))
        assert bits(scored(choice, forest, X)) == bits(scored(traversal, forest, X))


def test_different_winners_are_named_where_they_begin():
    forest = random_forest(Shape(), np.random.default_rng(0))
    masks, walks = IntervalMasks(forest, np.float32), Interleaved(forest, np.float32)

    choice = Choice(dict(zip(BATCH_ROWS, (masks, masks, walks, masks), strict=True)))

    assert choice.names == {
        "from 1 row": "interval masks",
        "from 64 rows": "interleaved traversal",
        "from 256 rows": "interval masks",
    }
    assert all(name in choice.name for name in choice.names.values())


def test_the_faster_kernel_wins_the_trial():
    forest = random_forest(Shape(n_trees=140, max_leaves=32), np.random.default_rng(0))
    walks, plain = Interleaved(forest, np.float32), Traversal(forest)
    X = likely_rows(forest, 1024).astype(np.float32)

    assert fastest([plain, walks], X, np.empty((1024, 1))) is walks


class Slow:
    """A kernel that takes longer than a trial may, and counts its calls."""

    name = "slow"

    def __init__(self, clock):
        self.clock = clock
        self.n_calls = 0

    def score_rows(self, X, out):
        self.clock.now += 2 * TRIAL_SECONDS
        self.n_calls += 1


def test_a_trial_ends_as_soon_as_each_kernel_had_its_turn_if_its_time_is_over(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    kernels = [Slow(clock), Slow(clock)]

    fastest(kernels, np.empty((256, 3)), np.empty((64, 1)))

    assert [kernel.n_calls for kernel in kernels] == [1, 1]


def test_trial_rows_reach_both_sides_of_most_splits():
    forest = chains_of(np.linspace(-1, 1, 64), 8)

    below = likely_rows(forest, 256) <= forest.threshold[forest.feature >= 0]

    assert (below.any(axis=0) & ~below.all(axis=0)).mean() > 0.9
