"""A tree ensemble as plain arrays: the one form every importer writes and every forest kernel reads.

This module says what a forest *means*; ``tests/reference.py`` scores it the slow, obvious way,
and the kernels must give the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

LESS = np.uint8(1)
"""Rule bit: a numeric node goes left on ``x < threshold`` (XGBoost); without it on ``x <= threshold``."""
DEFAULT_LEFT = np.uint8(2)
"""Rule bit: a missing value (NaN) goes left; without it, right."""
CATEGORICAL = np.uint8(4)
"""Rule bit: the node tests membership of a category code in its set, and goes left if it is in."""
SET_RIGHT = np.uint8(8)
"""Rule bit: at a categorical node, in the set goes right and everything else left (XGBoost)."""


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Binary trees over ``n_features`` columns, ``T`` trees and ``N`` nodes in all.

    Nodes of one tree are contiguous and its root comes first. A child index counts from the
    tree's first node. At a numeric node a row goes left if ``x <= threshold`` (``x < threshold``
    with ``LESS``), NaN by ``DEFAULT_LEFT``. At a categorical node ``x`` is a category code:
    NaN goes by ``DEFAULT_LEFT``; otherwise it is truncated toward zero, and goes left if its bit
    is set; negative codes and codes past the set count as not in it (with ``SET_RIGHT``, left and
    right change places, except for NaN).

    Attributes:
        tree_start: int64[T + 1], first node of each tree, then N.
        feature: int32[N], the column tested; -1 at a leaf.
        threshold: float64[N]; 0 at leaves and categorical nodes.
        left, right: int32[N], child, relative to the tree's first node; 0 at leaves.
        rule: uint8[N], OR of LESS, DEFAULT_LEFT, CATEGORICAL and SET_RIGHT.
        category_set: int32[N], index into ``set_start`` at categorical nodes, else -1.
        set_start: int64[S + 1], first word of each set, then the number of words.
        set_words: uint32[W]; bit ``c % 32`` of word ``c // 32`` says that code ``c`` goes left.
        leaf_value: float64[N, V], 0 at inner nodes. ``V`` is 1, or ``n_outputs`` for vector leaves.
        tree_output: int32[T], the output a tree adds to (0 with vector leaves).
        base: float64[n_outputs], what the sum starts from.
        scale: margin = scale * sum + bias, unless scale is 1 and bias all 0 (CatBoost).
        bias: float64[n_outputs].
        n_features, n_outputs: columns in, margins out.
        single: sum in float32, tree by tree (XGBoost); else in float64.
        average: divide the sum by the number of trees per output, as the last step.
        flush_tiny: treat |x| <= 1e-35f as 0 at numeric nodes, before comparing (LightGBM).
    """

    tree_start: NDArray[np.int64]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    rule: NDArray[np.uint8]
    category_set: NDArray[np.int32]
    set_start: NDArray[np.int64]
    set_words: NDArray[np.uint32]
    leaf_value: NDArray[np.float64]
    tree_output: NDArray[np.int32]
    base: NDArray[np.float64]
    bias: NDArray[np.float64]
    scale: float
    n_features: int
    n_outputs: int
    single: bool
    average: bool
    flush_tiny: bool

    @property
    def n_trees(self) -> int:
        """How many trees there are."""
        return len(self.tree_start) - 1

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All attributes by name, scalars as 0-d arrays, as ``numpy.savez`` wants them."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self:
        """The inverse of ``arrays``."""
        values = {field.name: arrays[field.name] for field in fields(cls)}
        return cls(**{name: a if a.ndim else a.item() for name, a in values.items()})  # type: ignore[arg-type]
