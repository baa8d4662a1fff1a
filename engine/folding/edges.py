"""Where the bins of numbers end among the raw numbers."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.folding.search import Search
from engine.folding.splits import Pipeline, Split, raw_type
from engine.schema import Feature


def bin_edges(
    features: Sequence[Feature], pipeline: Pipeline, n_bins: Mapping[int, int]
) -> dict[int, NDArray[np.float64]]:
    """Per place the last raw number of each interval but the last, ascending.

    Args:
        features: The raw features.
        pipeline: Its columns at these places are numbers of bins, from 0.
        n_bins: How many bins there are, by place among the columns of ``evaluate``; empty ones have no
            interval.

    Raises ``UnsupportedModel`` if the number of a bin neither rises nor falls throughout.
    """
    splits = [Split(place, 0, float(level), -1) for place, n in n_bins.items() for level in range(n - 1)]
    if not splits:
        return dict.fromkeys(n_bins, np.zeros(0))
    search = Search(None, features, pipeline, splits)
    low_left = search.low_left()
    edges, places = search.edges(low_left), np.array([split.column for split in splits])
    for place in n_bins:
        falls = (places == place) & ~low_left
        dtype = raw_type(features[pipeline.sources[place]])
        edges[falls] = np.nextafter(edges[falls].astype(dtype), np.array(-np.inf, dtype))
    return {place: np.unique(edges[(places == place) & np.isfinite(edges)]) for place in n_bins}
