"""Splits on one-hot bins as splits on bin numbers, which rise with the number and so can be folded.

``is bin 3`` is 1 between two edges and 0 on both sides, so one split becomes two, and what hangs on the
side of the 0 is needed twice:

    is bin 3 <= 0.5              number <= 2
    ├─ A                   →     ├─ A, of the bins below
    └─ B                         └─ number <= 3
                                    ├─ B
                                    └─ A, of the bins above

In each copy, further questions about the feature's bins that have only one answer left are dropped. Leaf
values and the order of trees stay, so the sums have the same bits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine.errors import UnsupportedModel
from engine.folding.columns import Column, places_of
from engine.folding.splits import Split, goes_left
from kernels.forests.forest import Forest

MOST_TIMES = 16
"""How many times larger a forest may become."""

Bounds = Mapping[int, tuple[int, int]]
"""Lowest and highest bin left, by place."""


@dataclass(slots=True)
class _Tree:
    """A tree as it grows: per node the old node it is like, then its own split and children."""

    like: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    plain: list[bool] = field(default_factory=list)

    def add(self, like: int, feature: int, threshold: float, *, plain: bool) -> int:
        self.like.append(like)
        self.feature.append(feature)
        self.threshold.append(threshold)
        self.left.append(0)
        self.right.append(0)
        self.plain.append(plain)
        return len(self.like) - 1


def on_bin_numbers(forest: Forest, columns: Sequence[Column]) -> Forest:
    """The forest over bin numbers that scores as ``forest`` does over one-hot bins.

    Args:
        forest: Over ``columns``.
        columns: The model's.

    Raises ``UnsupportedModel`` if it would grow too large.
    """
    if all(column.level is None for column in columns):
        return forest
    grower = _Grower(forest, columns)
    trees = [grower.grow(int(root), int(end)) for root, end in zip(*_ends(forest), strict=True)]
    like = np.array([node for tree in trees for node in tree.like], np.int64)
    plain = np.array([is_plain for tree in trees for is_plain in tree.plain], np.bool_)
    return replace(
        forest,
        tree_start=np.cumsum([0, *(len(tree.like) for tree in trees)], dtype=np.int64),
        feature=np.array([value for tree in trees for value in tree.feature], np.int32),
        threshold=np.array([value for tree in trees for value in tree.threshold], np.float64),
        left=np.array([value for tree in trees for value in tree.left], np.int32),
        right=np.array([value for tree in trees for value in tree.right], np.int32),
        rule=np.where(plain, forest.rule[like], 0).astype(np.uint8),
        category_set=np.where(plain, forest.category_set[like], -1).astype(np.int32),
        leaf_value=np.where(plain[:, None], forest.leaf_value[like], 0.0),
        n_features=max(places_of(columns)) + 1,
    )


def _ends(forest: Forest) -> tuple[Sequence[int], Sequence[int]]:
    return forest.tree_start[:-1].tolist(), forest.tree_start[1:].tolist()


class _Grower:
    def __init__(self, forest: Forest, columns: Sequence[Column]) -> None:
        self._forest, self._columns, self._places = forest, columns, places_of(columns)

    def grow(self, root: int, end: int) -> _Tree:
        """The new tree of the nodes from ``root`` to ``end``."""
        tree = _Tree()
        waiting: list[tuple[int, Bounds, int, str]] = [(root, {}, -1, "")]
        while waiting:
            node, bounds, parent, side = waiting.pop()
            made = self._place(tree, *self._settled(node, root, bounds), root, waiting)
            if parent >= 0:
                getattr(tree, side)[parent] = made
            if len(tree.like) > MOST_TIMES * (end - root):
                raise UnsupportedModel(
                    f"a tree that splits on one-hot bins would become more than {MOST_TIMES} times larger;"
                    " use KBinsDiscretizer(encode='ordinal'), which trees need no one-hot for"
                )
        return tree

    def _settled(self, node: int, root: int, bounds: Bounds) -> tuple[int, Bounds]:
        """The first node from ``node`` down whose question has more than one answer left."""
        while (column := int(self._forest.feature[node])) >= 0:
            level = self._columns[column].level
            if level is None:
                break
            low, high = bounds.get(self._places[column], (0, self._columns[column].n_bins - 1))
            inside, outside = self._children(node, root)
            if inside == outside or level < low or level > high:
                node = outside
            elif low == high:
                node = inside
            else:
                break
        return node, bounds

    def _place(
        self,
        tree: _Tree,
        node: int,
        bounds: Bounds,
        root: int,
        waiting: list[tuple[int, Bounds, int, str]],
    ) -> int:
        """Add a node, or the one or two that stand for it, and put the children on ``waiting``."""
        forest, column = self._forest, int(self._forest.feature[node])
        level = self._columns[column].level if column >= 0 else None
        if level is None:
            place = self._places[column] if column >= 0 else -1
            made = tree.add(node, place, float(forest.threshold[node]), plain=True)
            if column >= 0:
                waiting.append((root + int(forest.left[node]), bounds, made, "left"))
                waiting.append((root + int(forest.right[node]), bounds, made, "right"))
            return made
        place = self._places[column]
        low, high = bounds.get(place, (0, self._columns[column].n_bins - 1))
        inside, outside = self._children(node, root)
        first = last = -1
        if low < level:
            first = last = tree.add(node, place, level - 1.0, plain=False)
            waiting.append((outside, {**bounds, place: (low, level - 1)}, first, "left"))
        if level == high:
            waiting.append((inside, {**bounds, place: (level, level)}, last, "right"))
            return first
        second = tree.add(node, place, float(level), plain=False)
        if first >= 0:
            tree.right[first] = second
        waiting.append((inside, {**bounds, place: (level, level)}, second, "left"))
        waiting.append((outside, {**bounds, place: (level + 1, high)}, second, "right"))
        return second if first < 0 else first

    def _children(self, node: int, root: int) -> tuple[int, int]:
        """Where a row in the node's bin goes, and where one that is not."""
        forest = self._forest
        split = Split(
            int(forest.feature[node]),
            int(forest.rule[node]),
            float(forest.threshold[node]),
            int(forest.category_set[node]),
        )
        left, right = root + int(forest.left[node]), root + int(forest.right[node])
        inside, outside = goes_left(forest, [split], np.array([1.0, 0.0]))
        return (left if inside else right), (left if outside else right)
