"""Where the bins of a number end among the raw numbers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.folding.ordered_floats import of_keys, span
from engine.folding.search import REACHES, Search
from engine.folding.splits import Pipeline, Split, raw_type
from engine.schema import Feature


def bin_edges(
    features: Sequence[Feature], pipeline: Pipeline, place: int, n_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
    """The last raw number of each interval but the last, ascending, and a raw number within each interval.

    Args:
        features: The raw features.
        pipeline: Its column ``place`` is a bin's number, 0 to ``n_bins`` - 1.
        place: Among the columns of ``evaluate``.
        n_bins: How many bins there are; empty ones have no interval.

    Raises ``UnsupportedModel`` if the number of the bin neither rises nor falls throughout.
    """
    feature = features[pipeline.sources[place]]
    dtype = raw_type(feature)
    splits = [Split(place, 0, float(level), -1) for level in range(n_bins - 1)]
    found = np.zeros(0)
    if splits:
        search = Search(None, features, pipeline, splits)
        low_left = search.low_left()
        edges = search.edges(low_left)
        below = np.nextafter(edges.astype(dtype), np.array(-np.inf, dtype)).astype(np.float64)
        found = np.unique(np.where(low_left, edges, below))
        found = found[np.isfinite(found)]
    highest = of_keys(span(dtype, REACHES[-1])[1], dtype)
    return found, np.append(found.astype(dtype), highest)
