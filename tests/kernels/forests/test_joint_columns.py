"""Columns that are looked up together: which are, and that a row ends at the same leaves."""

import numpy as np
import pytest

from kernels.forests import mask_tables
from kernels.forests.binning import Binning
from kernels.forests.interval_masks import JOINTS, IntervalMasks
from kernels.forests.joint_columns import MOST_BINS, MOST_ROWS, as_array, choose_joints, join_bins, joined
from kernels.forests.mask_lookups import ROW_WORDS, Lookup
from kernels.forests.mask_tables import MaskTables
from kernels.forests.traversal import Traversal
from tests.kernels.drawn_forests import Shape, random_forest, random_rows, scored, scored_by_columns
from tests.reference import bits

ONES = ~np.uint64(0)


def lookup(block: int, column: int, *masks: int) -> Lookup:
    """One whose bins each have a mask row, which ends in these bits."""
    rows = np.full((len(masks), ROW_WORDS), ONES)
    rows[:, 0] = np.array(masks, np.uint64)
    return Lookup(block, column, np.arange(len(masks)), rows)


def uses(n_blocks: int, *n_masks: int) -> list[Lookup]:
    return [lookup(b, c, *[1] * n) for b in range(n_blocks) for c, n in enumerate(n_masks) if n]


def test_the_bin_of_both_counts_through_the_second_columns_bins():
    n_bins = np.array([3, 200, 4])
    bins = np.array([[0, 9, 3, 77], [1, 9, 0, 77], [2, 9, 3, 77]], np.uint16)
    join_bins(as_array([(0, 2)], n_bins).ravel(), bins, len(bins))
    assert bins[:, 3].tolist() == [3, 4, 11]


def test_mask_rows_of_both_are_ands_in_the_order_of_their_bins():
    both = joined([lookup(0, 0, 0b111, 0b110), lookup(0, 1, 0b011, 0b101, 0b111)], [(0, 1)], np.array([2, 3]))
    (one,) = both
    assert (one.block, one.column) == (0, 2)
    assert one.masks[one.numbers, 0].tolist() == [0b011, 0b101, 0b111, 0b010, 0b100, 0b110]
    assert (one.masks[:, 1:] == ONES).all()


def test_a_block_that_uses_one_of_both_has_its_rows_at_all_bins_of_the_other():
    lookups = [lookup(0, 1, 5, 6, 7), lookup(1, 2, 9)]
    both, other = joined(lookups, [(0, 1)], np.array([2, 3, 1]))
    assert both.masks[both.numbers, 0].tolist() == [5, 6, 7, 5, 6, 7]
    assert other is lookups[1]


def test_columns_with_the_fewest_rows_go_together_and_a_large_one_alone():
    n_bins = np.array([3, 200, 4, 3])
    assert choose_joints(uses(2, 2, 90, 3, 2), n_bins, 2) == [(2, 0, 3)]


@pytest.mark.parametrize(
    ("n_bins", "n_masks", "n_blocks"),
    [
        ((3, MOST_BINS // 2), (3, 3), 2),  # too many bins
        ((30, 30), (MOST_ROWS // 4, 7), 2),  # too many mask rows
        ((3, 3), (3, 3), 1),  # a lookup spared is what the joint bin costs
        ((3, 3), (3, 0), 2),  # none is spared
    ],
)
def test_columns_stay_alone_where_it_would_not_pay(n_bins, n_masks, n_blocks):
    assert choose_joints(uses(n_blocks, *n_masks), np.array(n_bins), n_blocks) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("categorical", [0.0, 0.5])
@pytest.mark.parametrize("symmetric", [False, True])
def test_rows_end_at_the_same_leaves(dtype, categorical, symmetric):
    random = np.random.default_rng(3)
    shape = Shape(
        n_trees=150,
        n_features=25,
        max_leaves=16,
        n_thresholds=2,
        categorical=categorical,
        symmetric=symmetric,
    )
    forest = random_forest(shape, random)
    X = random_rows(forest, 700, dtype, random)
    kernel = IntervalMasks(forest, dtype)
    assert len(kernel.arrays[JOINTS])
    expected = scored(Traversal(forest), forest, X)

    assert bits(scored(kernel, forest, X)) == bits(expected)
    assert bits(scored_by_columns(kernel, forest, X)) == bits(expected)
    for row in range(50):
        assert bits(scored(kernel, forest, X[row : row + 1])) == bits(expected[row : row + 1])


def test_fewer_lookups_with_joints_than_without(monkeypatch):
    random = np.random.default_rng(3)
    forest = random_forest(Shape(n_trees=150, n_features=25, max_leaves=16, n_thresholds=2), random)
    binning = Binning.of(forest, np.float32)
    together = MaskTables.of(forest, binning)
    monkeypatch.setattr(mask_tables, "choose_joints", lambda *_: [])
    alone = MaskTables.of(forest, binning)
    assert len(together.pairs) < 0.7 * len(alone.pairs)
    assert not len(alone.joints)


def test_a_block_has_one_row_that_strikes_out_nothing_and_it_is_the_first():
    random = np.random.default_rng(4)
    forest = random_forest(Shape(n_trees=150, n_features=9, max_leaves=32), random)
    tables = MaskTables.of(forest, Binning.of(forest, np.float32))
    strikes_nothing = (tables.masks == ONES).all(axis=1)
    assert np.flatnonzero(strikes_nothing).tolist() == tables.blocks["first_mask"].tolist()
    assert len(tables.blocks) > 1
