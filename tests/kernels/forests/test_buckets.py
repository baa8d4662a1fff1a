"""Bins by buckets are those of the search, whatever the edges and the values."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from kernels.forests import binning
from kernels.forests.binning import COLUMN, bin_columns
from kernels.forests.buckets import WORTH_BUCKETS, buckets_of

RANDOM = np.random.default_rng(5)
EVEN = {
    "two": np.array([-1.5, 2.0]),
    "fifteen": np.arange(15.0),
    "sixteen": np.arange(16.0) * 0.1 - 0.3,
    "quantiles": np.quantile(RANDOM.normal(size=50_000), np.arange(1, 200) / 200),
    "tiny": np.arange(40) * 1e-36,
    "huge": np.linspace(-1e38, 1e38, 64),
    "far from zero": 1e6 + np.arange(90.0),
}
UNEVEN = {
    "one": np.array([3.0]),
    "powers": np.logspace(-30, 30, 100),
    "infinite": np.array([0.0, 1.0, np.inf]),
    "wider than the type": np.array([-3e38, 0.0, 3e38]),
    "three in a bucket": np.array([0.0, 1e-9, 2e-9, 1.0]),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EVEN)
def test_buckets_and_search_agree(name: str, dtype: DTypeLike) -> None:
    column, edges, classes = one_column(EVEN[name], dtype)
    assert column["n_buckets"][0]
    values = odd_values(EVEN[name].astype(dtype))
    expected = np.searchsorted(EVEN[name].astype(dtype), values).astype(np.uint16)
    expected[np.isnan(values)] = len(EVEN[name]) + 1
    assert len(values) >= WORTH_BUCKETS
    assert np.array_equal(bins_of(column, edges, classes, values), expected)
    searched = column.copy()
    searched["n_buckets"] = 0
    assert np.array_equal(bins_of(searched, edges, classes, values), expected)


@pytest.mark.parametrize("name", UNEVEN)
def test_uneven_edges_are_searched(name: str) -> None:
    assert not len(buckets_of(UNEVEN[name].astype(np.float32))[2])


def one_column(thresholds: NDArray[Any], dtype: DTypeLike) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The bin column of a feature with these edges, all edges, and all classes."""
    draft = binning._Draft(np.dtype(dtype), len(thresholds))
    draft._add_search(0, thresholds.astype(dtype))
    made = draft.finish()
    assert made.columns.dtype == COLUMN
    return made.columns, made.edges, made.classes


def odd_values(edges: NDArray[Any]) -> NDArray[Any]:
    """The edges, the numbers beside them, numbers between them and far away, and NaN."""
    kind = edges.dtype.type
    extreme = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, *np.finfo(kind).max * np.array([1, -1])], kind)
    spread = RANDOM.uniform(edges[0], edges[-1], 500).astype(kind)
    return np.concatenate(
        [edges, np.nextafter(edges, kind(np.inf)), np.nextafter(edges, -kind(np.inf)), extreme, spread]
    )


def bins_of(
    column: NDArray[Any], edges: NDArray[Any], classes: NDArray[np.uint16], values: NDArray[Any]
) -> NDArray[np.uint16]:
    bins = np.empty((len(values), 1), np.uint16)
    bin_columns(column, 0, 1, edges, classes, values[:, None], 0, bins)
    return bins[:, 0]
