"""Bins of large batches without a search: equal buckets over a feature's edges, then two comparisons.

From the first edge to the last, the axis is cut into equal buckets. A table says how many edges lie in the
buckets below each; all that is left to compare are the two edges next to them, for no bucket holds more.
With the edges 0, 1, 2.5 and 4, and buckets one wide:

    bucket           0    1    2    3    4 and all beyond
    edges            0    1    2.5       4
    edges below      0    1    2    3    3

    x = 2.2: bucket 2, two edges below; 2.2 <= 2.5, and <= 4:      bin 2
    x = 2.7: bucket 2, two edges below; 2.7 > 2.5, but <= 4:       bin 3
    x = 9:   bucket 4, three edges below; 9 > 4, but <= infinity:  bin 4
    NaN:     bucket 4, three edges below; neither comparison:      bin 5

That is exact, whatever is rounded on the way to a bucket: subtraction, multiplication and truncation keep
the order, so an edge in a lower bucket than ``x`` is less than ``x``, and one in a higher bucket greater.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import inlined, kernel

BUCKETS = (256, 1024, 4096)
"""The numbers of buckets that are tried; a column's table, uint16 each, is 8 KiB at most."""
MOST_IN_BUCKET = 2
"""A feature with more edges in a bucket is searched."""
WORTH_BUCKETS = 128
"""Smaller batches are searched, for the tables have to come into the cache first; not tuned."""
NO_BUCKETS = (0.0, 0.0, 0, 0)
"""The fields of a column that has none."""


@kernel
def bin_by_buckets(
    column: Any,
    c: int,
    edges: NDArray[Any],
    classes: NDArray[np.uint16],
    X: NDArray[Any],
    feature: int,
    bins: NDArray[np.uint16],
) -> None:
    """Write the bins of one column that has buckets; a kernel of its own, which compiles to less code.

    Args:
        column: COLUMN.
        c: Its number.
        edges: As in ``bin_columns``.
        classes: As in ``bin_columns``.
        X: C-order [n, F] of the type of ``edges``; NaN is missing.
        feature: Where in ``X`` its values are.
        bins: uint16[n, C].
    """
    low, scale = X.dtype.type(column.low), X.dtype.type(column.scale)
    first_bucket, n_buckets = np.uint32(column.first_bucket), X.dtype.type(column.n_buckets)
    first_edge = np.uint32(column.start[column.levels - 1])
    for row in range(X.shape[0]):
        x = X[row, feature]
        below = np.uint32(classes[first_bucket + bucket_of(x, low, scale, n_buckets)])
        edge = np.uint64(first_edge + below)
        bins[row, c] = below + (not x <= edges[edge]) + (not x <= edges[edge + np.uint64(1)])


@inlined
def bucket_of(x: float, low: float, scale: float, n_buckets: float) -> int:
    """The bucket of a value, from 0 to ``n_buckets``, which is also that of NaN."""
    place = (x - low) * scale
    place = type(place)(0) if place < 0 else place
    return np.uint32(np.int32(place if place < n_buckets else n_buckets))  # type: ignore[return-value]


def buckets_of(edges: NDArray[Any]) -> tuple[float, float, NDArray[np.uint16]]:
    """Where the buckets of sorted edges begin, how many of them a unit holds, and the edges below each.

    No buckets where the edges are spread too unevenly. The last bucket holds the last edge only, so that two
    comparisons there tell NaN from what is merely large.
    """
    for n_buckets in BUCKETS if len(edges) > 1 else ():
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            scale = edges.dtype.type(n_buckets + 0.5) / (edges[-1] - edges[0])
            if not (np.isfinite(scale) and scale > 0):
                break
            bucket = np.clip((edges - edges[0]) * scale, 0, n_buckets).astype(np.int64)
        in_bucket = np.bincount(bucket, minlength=n_buckets + 1)
        if in_bucket.max() <= MOST_IN_BUCKET and in_bucket[-1] == 1:
            below = np.cumsum(in_bucket) - in_bucket
            return float(edges[0]), float(scale), below.astype(np.uint16)
    return 0.0, 0.0, np.empty(0, np.uint16)
