"""Splits on one-hot bins become splits on bin numbers: the same margins, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UnsupportedModel
from engine.folding import bins
from engine.folding.bins import on_bin_numbers
from engine.folding.columns import Column, places_of
from engine.importers.trees import Rules, Tree, grow
from kernels.forests.forest import Forest
from kernels.forests.soundness import fault
from kernels.forests.traversal import Traversal

COLUMNS = [
    Column(0, n_bins=4, level=0), Column(0, n_bins=4, level=1), Column(0, n_bins=4, level=2),
    Column(0, n_bins=4, level=3), Column(1), Column(2, n_bins=3, level=0), Column(2, n_bins=3, level=1),
    Column(2, n_bins=3, level=2),
]  # fmt: skip


def full_tree(seed: int, depth: int) -> Tree:
    random = np.random.default_rng(seed)
    n_inner = (1 << depth) - 1
    node = np.arange(2 * n_inner + 1)
    inner = node < n_inner
    return Tree(
        feature=np.where(inner, random.integers(0, len(COLUMNS), len(node)), -1),
        threshold=np.where(inner, random.choice([0.5, 0.0, -1.0, 2.0], len(node)), 0.0),
        left=np.where(inner, 2 * node + 1, 0),
        right=np.where(inner, 2 * node + 2, 0),
        default_left=np.zeros(len(node), bool),
        leaf_value=np.where(inner, 0.0, random.normal(size=len(node))),
    )


def forest(seed: int, depth: int) -> Forest:
    trees = [full_tree(seed + number, depth) for number in range(3)]
    return grow(trees, Rules(), n_features=len(COLUMNS), base=np.zeros(1))


def margins(some: Forest, X: np.ndarray) -> list[float]:
    out = np.empty((len(X), 1))
    Traversal(some).score_rows(np.ascontiguousarray(X), out)
    return out[:, 0].tolist()


def test_the_bins_of_a_feature_share_a_place() -> None:
    assert places_of(COLUMNS) == [0, 0, 0, 0, 1, 2, 2, 2]


@settings(deadline=None)
@given(st.integers(0, 2**30), st.integers(0, 5))
def test_a_forest_on_bin_numbers_has_the_margins_of_the_one_on_one_hot_bins(seed: int, depth: int) -> None:
    one_hot = forest(seed, depth)
    numbered = on_bin_numbers(one_hot, COLUMNS)
    assert fault(numbered) is None
    rows = np.array([[a, x, b] for a in range(4) for x in (-1.0, 0.25, 3.0) for b in range(3)], float)
    wide = np.column_stack(
        [*(rows[:, 0] == a for a in range(4)), rows[:, 1], *(rows[:, 2] == b for b in range(3))]
    )
    assert margins(numbered, rows) == margins(one_hot, wide.astype(float))


def test_a_forest_without_one_hot_bins_is_left_as_it_is() -> None:
    some = forest(0, 2)
    assert on_bin_numbers(some, [Column(index) for index in range(8)]) is some


def test_a_forest_that_would_grow_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bins, "MOST_TIMES", 0.5)
    with pytest.raises(UnsupportedModel, match="times larger"):
        on_bin_numbers(forest(0, 4), COLUMNS)
