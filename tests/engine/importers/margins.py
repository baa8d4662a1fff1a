"""Packed models scored by the plain kernels, and rows that look for trouble in them."""

from pathlib import Path

import numpy as np

from engine.bundle import read_bundle
from engine.importers.imported import FOREST
from kernels.forests.forest import Forest
from kernels.forests.traversal import Traversal

SPECIAL = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1e-35,
    -1e-35,
    1.1e-35,
    5e-324,
    -1.0,
    -0.5,
    0.5,
    1.0,
    3.0,
    31.5,
    1e30,
]


def forest_of(path: Path) -> Forest:
    return Forest.of_arrays(read_bundle(path).arrays(FOREST))


def margins_of(path: Path, X) -> np.ndarray:
    """Margins [n, K] of a packed forest for rows in codes."""
    forest = forest_of(path)
    out = np.full((len(X), forest.n_outputs), np.nan, np.float32 if forest.single else np.float64)
    Traversal(forest).score_rows(np.ascontiguousarray(X), out)
    return out


def troubled_rows(forest: Forest, n: int, seed: int, dtype=np.float64) -> np.ndarray:
    """Rows of thresholds, their neighbours one ulp away, codes, and values no one expects."""
    random = np.random.default_rng(seed)
    X = np.empty((n, forest.n_features), dtype)
    for feature in range(forest.n_features):
        thresholds = forest.threshold[forest.feature == feature].astype(dtype)
        with np.errstate(over="ignore"):
            near = [np.nextafter(thresholds, dtype(to)) for to in (-np.inf, np.inf)]
        pool = np.concatenate(
            [thresholds, *near, np.array(SPECIAL, dtype), random.normal(size=8).astype(dtype)]
        )
        X[:, feature] = random.choice(pool, n)
    return X


def same_bits(one, other) -> bool:
    """Equal, counting NaN as equal to NaN; 0.0 and -0.0 are one number here."""
    return np.array_equal(np.asarray(one), np.asarray(other), equal_nan=True)
