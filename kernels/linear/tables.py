"""What a feature adds to the margins by looking it up: a weight per category, or per interval of numbers.

A one-hot, ordinal or target encoding in front of a linear model is one number per category and output, and
so are the bins of a number. All tables of a model lie one after the other in ``weights``; the last entry
of each stands for a missing value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import inlined

CODES = -1
"""Number of edges of a table whose feature is a category code."""
TABLE = np.dtype([("source", "i8"), ("n_edges", "i8"), ("edge", "i8"), ("entry", "i8"), ("n_entries", "i8")])
"""A table: its feature, number and first place of its edges, first place in ``weights``, entries but one."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One feature's table.

    Attributes:
        source: The feature's place among the columns.
        edges: float64[E] ascending: entry ``e`` is for ``edges[e - 1] < x <= edges[e]``. None for a
            category: entry ``e`` is for code ``e``, the last one for every larger code.
        weights: float64[N + 1, K], N at least 1: per entry and output, a missing value's last.
    """

    source: int
    edges: NDArray[np.float64] | None
    weights: NDArray[np.float64]


def table_parameters(
    tables: Sequence[Table], n_outputs: int
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """The tables as TABLE[T], all their edges, and all their weights [W, K]."""
    rows, n_edges, n_entries = [], 0, 0
    for table in tables:
        size = CODES if table.edges is None else len(table.edges)
        rows.append((table.source, size, n_edges, n_entries, len(table.weights) - 1))
        n_edges, n_entries = n_edges + max(size, 0), n_entries + len(table.weights)
    edges = [table.edges for table in tables if table.edges is not None]
    weights = [table.weights for table in tables] or [np.zeros((0, n_outputs))]
    return (
        np.array(rows, TABLE),
        np.concatenate([*edges, np.zeros(0)]),
        np.ascontiguousarray(np.concatenate(weights), np.float64),
    )


@inlined
def entry_of(x: float, table: Any, edges: NDArray[np.float64]) -> int:
    """The entry in ``weights`` of a feature's value (float64), whose TABLE is ``table``."""
    place = np.int64(0)
    if np.isnan(x):
        place = table.n_entries
    elif table.n_edges == CODES:
        place = np.int64(min(max(x, 0.0), table.n_entries - 1.0))
    else:
        end = table.n_edges
        while place < end:
            middle = (place + end) >> 1
            if edges[table.edge + middle] < x:
                place = middle + 1
            else:
                end = middle
    return table.entry + place
