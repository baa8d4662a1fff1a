"""From values to bins: where a value lies among all thresholds a forest compares its feature with.

Numeric nodes all become ``x <= edge``, an edge being a number of the features' own type: ``x < t``
is ``x <= `` the number before ``t``, float32 features meet float64 thresholds rounded *down*, and
``flush_tiny`` moves edges out of the flushed range. The bin of ``x`` is the number of edges below
it, from 0 to ``n`` for ``n`` edges, and ``n + 1`` for NaN, so a node with edge number ``e`` sends bin
``b <= e`` left. Codes of a categorical feature that no set of the forest tells apart share a bin.

A feature tested both ways, or with more than MAX_EDGES edges, becomes several bin columns.

Large batches take a shorter way where a feature's edges are spread evenly enough: ``buckets``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import DTypeLike, NDArray

from kernels.compiler import kernel
from kernels.forests.buckets import MOST_IN_BUCKET, NO_BUCKETS, WORTH_BUCKETS, bin_by_buckets, buckets_of
from kernels.forests.forest import CATEGORICAL, LESS, Forest
from kernels.forests.simd import pointer_at, rank16
from kernels.forests.traversal import TINY

TILE_ROWS = 128
"""Rows whose bins are found column by column: they and their values stay in the first-level cache."""
FANOUT = 16
"""Edges compared at once; a search of 4 levels ends among 65,536."""
MAX_EDGES = 65_533
"""The bins of one column, NaN's included, must be uint16."""
MAX_SET_BITS = 1 << 27
"""Sets times codes of one feature that a loader is willing to lay out."""
COLUMN = np.dtype(
    [
        ("feature", np.uint32), ("levels", np.uint32), ("start", np.uint32, 4), ("last", np.uint32, 4),
        ("low", np.float64), ("scale", np.float64), ("first_bucket", np.uint32), ("n_buckets", np.uint32),
    ]
)  # fmt: skip
"""A bin column. With ``levels`` from 1 to 4, level ``i`` of the search is at ``edges[start[i]]`` in groups
of FANOUT and may not pass group ``last[i]`` (at the bottom: bin ``last[i]``). With ``levels`` 0, the
feature is categorical: from ``classes[start[0]]`` on are the bins of ``last[0]`` codes, of other codes
and of NaN. With ``n_buckets`` not 0, ``classes[first_bucket + b]`` edges lie below bucket ``b``, which for
a value ``x`` is ``(x - low) * scale``. All of it is one line of the cache."""


@kernel
def bin_columns(
    columns: NDArray[Any],
    first: int,
    end: int,
    edges: NDArray[Any],
    classes: NDArray[np.uint16],
    X: NDArray[Any],
    feature_offset: int,
    bins: NDArray[np.uint16],
) -> None:
    """Write the bins of the columns ``first`` to ``end`` for all rows of ``X``.

    Args:
        columns: COLUMN[C].
        first: The first column to do.
        end: The column after the last.
        edges: float32 or float64[E], as COLUMN says.
        classes: uint16[K], as COLUMN says.
        X: C-order [n, F] of the type of ``edges``; NaN is missing.
        feature_offset: The feature that is ``X[:, 0]``.
        bins: uint16[n or more, C].
    """
    for tile in range(0, X.shape[0], TILE_ROWS):
        end_row = min(tile + TILE_ROWS, X.shape[0])
        for c in range(first, end):
            column = columns[c]
            feature = column.feature - feature_offset
            levels, start, last = column.levels, column.start, column.last
            # Read before the loops: for all that the compiler knows, a bin written may change the column.
            top, bottom, last_of_top, last_of_bottom = start[0], start[1], last[0], last[1]
            if column.n_buckets and X.shape[0] >= WORTH_BUCKETS:
                bin_by_buckets(column, c, edges, classes, X[tile:end_row], feature, bins[tile:end_row])
            elif levels == 1:
                for row in range(tile, end_row):
                    bins[row, c] = min(rank16(edges, top, X[row, feature]), last_of_top)
            elif levels == 2:
                for row in range(tile, end_row):
                    x = X[row, feature]
                    group = FANOUT * min(rank16(edges, top, x), last_of_top)
                    bins[row, c] = min(group + rank16(edges, bottom + group, x), last_of_bottom)
            elif levels == 0:
                for row in range(tile, end_row):
                    bins[row, c] = classes[top + class_place(X[row, feature], last_of_top)]
            else:
                for row in range(tile, end_row):
                    bins[row, c] = search(edges, levels, start, last, X[row, feature])


@kernel
def bin_row(
    columns: NDArray[Any],
    edges: NDArray[Any],
    classes: NDArray[np.uint16],
    x: NDArray[Any],
    bins: NDArray[np.uint16],
) -> None:
    """Write the bins of all columns for a single row: ``bin_columns`` without a loop over rows to set up.

    Args:
        columns: COLUMN[C].
        edges: As in ``bin_columns``.
        classes: As in ``bin_columns``.
        x: The row, [F] of the type of ``edges``; NaN is missing.
        bins: uint16[C].
    """
    for c in range(len(columns)):
        column = columns[c]
        levels, start, last = column.levels, column.start, column.last
        value = x[np.uint64(column.feature)]
        if levels == 2:
            group = FANOUT * min(rank16(edges, start[0], value), last[0])
            bins[c] = min(group + rank16(edges, start[1] + group, value), last[1])
        elif levels == 1:
            bins[c] = min(rank16(edges, start[0], value), last[0])
        elif levels == 0:
            bins[c] = classes[start[0] + class_place(value, last[0])]
        else:
            bins[c] = search(edges, levels, start, last, value)


@kernel
def bin_arrays(
    columns: NDArray[Any],
    edges: NDArray[Any],
    classes: NDArray[np.uint16],
    addresses: NDArray[np.int64],
    example: NDArray[Any],
    start: int,
    end: int,
    bins: NDArray[np.uint16],
) -> None:
    """Write the bins of the rows ``start`` to ``end`` of features that lie in an array each.

    Args:
        columns: COLUMN[C].
        edges: As in ``bin_columns``.
        classes: As in ``bin_columns``.
        addresses: int64[F], where the features' contiguous arrays begin.
        example: An array of the features' type; its values do not matter.
        start: The first row.
        end: The row after the last.
        bins: uint16[end - start or more, C].
    """
    for c in range(len(columns)):
        feature = columns[c].feature
        place = pointer_at(addresses[feature] + start * example.itemsize)
        values = carray(place, (end - start, 1), example.dtype)
        bin_columns(columns, c, c + 1, edges, classes, values, feature, bins)


@kernel
def search(
    edges: NDArray[Any], levels: int, start: NDArray[np.int64], last: NDArray[np.int64], x: float
) -> int:
    """The bin of ``x`` by a search of any number of levels."""
    group = 0
    for level in range(levels):
        group = min(FANOUT * group + rank16(edges, start[level] + FANOUT * group, x), last[level])
    return group


@kernel
def class_place(x: float, n_codes: int) -> int:
    """Where in a column's classes the category code ``x`` is: itself, other, or missing."""
    if np.isnan(x):
        return n_codes + 1
    return np.int64(x) if -1.0 < x < n_codes else n_codes  # type: ignore[return-value]


class Unsuited(Exception):
    """The forest does not fit a kernel's tables; another kernel must score it."""


@dataclass(frozen=True, slots=True, eq=False)
class Binning:
    """A forest's bin columns, and its nodes in terms of them.

    Attributes:
        columns: COLUMN[C].
        n_bins: int64[C], NaN's included.
        edges: [E] in the type of the features.
        classes: uint16[K].
        node_column: int32[N]; -1 at leaves.
        node_edge: int32[N], the last bin that goes left (-1: none); at categorical nodes the row in
            ``sets_left[node_column]``.
        sets_left: By categorical column: bool[sets, bins], which bins are in the set.
    """

    columns: NDArray[Any]
    n_bins: NDArray[np.int64]
    edges: NDArray[Any]
    classes: NDArray[np.uint16]
    node_column: NDArray[np.int32]
    node_edge: NDArray[np.int32]
    sets_left: dict[int, NDArray[np.bool_]]

    @classmethod
    def of(cls, forest: Forest, dtype: DTypeLike) -> "Binning":
        """Bins for features of ``dtype``; raises Unsuited."""
        draft = _Draft(np.dtype(dtype), len(forest.feature))
        inner = forest.feature >= 0
        categorical = (forest.rule & CATEGORICAL) != 0
        edges, never = node_edges(forest, draft.dtype)
        for feature, nodes in _by_value(forest.feature, np.flatnonzero(inner & ~categorical)):
            draft.add_numeric(feature, nodes, edges[nodes], never[nodes])
        for feature, nodes in _by_value(forest.feature, np.flatnonzero(inner & categorical)):
            draft.add_categorical(feature, nodes, forest)
        return draft.finish()


def node_edges(forest: Forest, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """For each numeric node the largest number of ``dtype`` that goes left, and whether none does."""
    t = forest.threshold
    less = (forest.rule & LESS) != 0
    never = np.isnan(t) | (less & (t == -np.inf))
    with np.errstate(over="ignore", under="ignore"):
        t = np.where(less, np.nextafter(t, -np.inf), t)
        if forest.flush_tiny:
            t = np.where((t >= 0) & (t < TINY), TINY, t)
            t = np.where((t < 0) & (t >= -TINY), np.nextafter(-TINY, -np.inf), t)
        nearest = t.astype(dtype)
        down = np.where(nearest > t, np.nextafter(nearest, dtype.type(-np.inf)), nearest)
    return down + dtype.type(0), never


def _by_value(values: NDArray[Any], nodes: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Split ``nodes`` by their value."""
    nodes = nodes[np.argsort(values[nodes], kind="stable")]
    distinct, first = np.unique(values[nodes], return_index=True)
    yield from zip(distinct.tolist(), np.split(nodes, first[1:]), strict=False)


@dataclass(slots=True)
class _Draft:
    """Bin columns as they are added."""

    dtype: np.dtype[Any]
    n_nodes: int
    columns: list[tuple[Any, ...]] = field(default_factory=list)
    n_bins: list[int] = field(default_factory=list)
    edges: list[NDArray[Any]] = field(default_factory=list)
    classes: list[NDArray[np.uint16]] = field(default_factory=list)
    sets_left: dict[int, NDArray[np.bool_]] = field(default_factory=dict)
    n_edges: int = 0
    n_classes: int = 0
    node_column: NDArray[np.int32] = field(init=False)
    node_edge: NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        self.node_column = np.full(self.n_nodes, -1, np.int32)
        self.node_edge = np.full(self.n_nodes, -1, np.int32)

    def add_numeric(
        self, feature: int, nodes: NDArray[np.int64], edges: NDArray[Any], never: NDArray[np.bool_]
    ) -> None:
        distinct, place = np.unique(np.where(never, self.dtype.type(np.inf), edges), return_inverse=True)
        for first in range(0, len(distinct), MAX_EDGES):
            part = distinct[first : first + MAX_EDGES]
            here = (place >= first) & (place < first + MAX_EDGES)
            self.node_column[nodes[here]] = len(self.columns)
            self.node_edge[nodes[here]] = np.where(never, -1, place - first)[here]
            self._add_search(feature, part)

    def _add_search(self, feature: int, edges: NDArray[Any]) -> None:
        levels = search_levels(edges)
        start = self.n_edges + np.cumsum([0] + [len(level) for level in levels])
        groups = [len(level) // FANOUT - 1 for level in levels[1:]] + [len(edges) + 1]
        unused = [0] * (4 - len(levels))
        search = (feature, len(levels), start[:-1].tolist() + unused, groups + unused)
        low, scale, below = buckets_of(edges)
        self.columns.append((*search, low, scale, self.n_classes, max(len(below) - 1, 0)))
        self.classes.append(below)
        self.n_classes += len(below)
        self.n_bins.append(len(edges) + 2)
        self.edges += levels
        self.n_edges = int(start[-1])

    def add_categorical(self, feature: int, nodes: NDArray[np.int64], forest: Forest) -> None:
        sets, place = np.unique(forest.category_set[nodes], return_inverse=True)
        members = set_members(forest, sets)
        classes, examples = code_classes(members)
        if len(examples) > MAX_EDGES:
            raise Unsuited
        kinds = members[:, examples]
        nan_bin = kinds.shape[1]
        self.node_column[nodes] = len(self.columns)
        self.node_edge[nodes] = place
        self.sets_left[len(self.columns)] = kinds
        n_codes = members.shape[1] - 1
        self.columns.append((feature, 0, [self.n_classes, 0, 0, 0], [n_codes, 0, 0, 0], *NO_BUCKETS))
        self.n_bins.append(nan_bin + 1)
        self.classes.append(np.append(classes, nan_bin).astype(np.uint16))
        self.n_classes += n_codes + 2

    def finish(self) -> Binning:
        if max(self.n_edges, self.n_classes) > np.iinfo(np.uint32).max:
            raise Unsuited
        return Binning(
            columns=np.array(self.columns, COLUMN),
            n_bins=np.array(self.n_bins, np.int64),
            edges=np.concatenate([np.empty(0, self.dtype), *self.edges]),
            classes=np.concatenate([np.empty(0, np.uint16), *self.classes]),
            node_column=self.node_column,
            node_edge=self.node_edge,
            sets_left=self.sets_left,
        )


def search_levels(edges: NDArray[Any]) -> list[NDArray[Any]]:
    """The levels of a 16-ary search: at the bottom the edges by FANOUT, above it the last edge of each group.

    Past the end come infinities, at least MOST_IN_BUCKET, which only NaN is "above".
    """
    levels = [_padded(edges, (len(edges) + MOST_IN_BUCKET - 1) // FANOUT + 1)]
    while len(levels[0]) > FANOUT:
        n_groups = len(levels[0]) // FANOUT
        lasts = levels[0][FANOUT - 1 :: FANOUT][:-1]
        levels.insert(0, _padded(lasts, -(-n_groups // FANOUT)))
    return levels


def _padded(edges: NDArray[Any], n_groups: int) -> NDArray[Any]:
    padding = np.full(n_groups * FANOUT - len(edges), np.inf, edges.dtype)
    return np.concatenate([edges, padding])


@kernel
def code_classes(members: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classes of codes that are in the same sets.

    Args:
        members: bool[sets, codes], which codes are in each set.

    Returns:
        int64[codes], each code's class; int64[classes], a code of each class.
    """
    classes = np.zeros(members.shape[1], np.int64)
    n_classes = 1
    for row in range(members.shape[0]):
        known = np.full(2 * n_classes, -1, np.int64)
        n_classes = 0
        for code in range(len(classes)):
            key = 2 * classes[code] + members[row, code]
            if known[key] < 0:
                known[key] = n_classes
                n_classes += 1
            classes[code] = known[key]
    examples = np.zeros(n_classes, np.int64)
    for code in range(len(classes)):
        examples[classes[code]] = code
    return classes, examples


def set_members(forest: Forest, sets: NDArray[np.int32]) -> NDArray[np.bool_]:
    """bool[sets, codes + 1]: which codes are in each set; the last column, other codes, is False."""
    starts, ends = forest.set_start[sets], forest.set_start[sets + 1]
    n_words = int((ends - starts).max(initial=1))
    if len(sets) * n_words * 32 > MAX_SET_BITS:
        raise Unsuited
    words = np.zeros((len(sets), n_words), np.uint32)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        words[row, : end - start] = forest.set_words[start:end]
    members = np.unpackbits(words.astype("<u4").view(np.uint8), axis=1, bitorder="little").astype(np.bool_)
    return np.pad(members, ((0, 0), (0, 1)))
