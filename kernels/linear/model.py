"""Linear models: transforms, dot product and link of rows or of columns, the same bits at either door.

The margin is ``(coef[k, 0] * x[0] + coef[k, 1] * x[1] + … + table entries) + intercept[k]``, every product
and every sum rounded to float64, in this order. A term ``x[t]`` is a feature after its transform; a
feature may have several terms, or only a table. So a score depends neither on its neighbours nor on how
many there are. A feature that is missing and not imputed makes the margin NaN. Matrix libraries add up
in other orders, and differ by some units in the last place.

Columns are read once, a block of rows at a time: the block's sums stay in the first-level cache while
one column after the other is transformed and added, and the next column's part is on its way from memory.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numba import carray
from numpy.typing import NDArray

from kernels.columns.bitmaps import blank_invalid
from kernels.compiler import inlined, kernel
from kernels.forests.hints import LINE_BYTES, prefetch, wide_vectors
from kernels.forests.simd import pointer_at
from kernels.linear.quantiles import knots_of
from kernels.linear.tables import entry_of, table_parameters
from kernels.linear.terms import Terms
from kernels.linear.transforms import (
    AFFINE,
    BOX_COX,
    LOGARITHM,
    PLAIN,
    QUANTILES,
    Transform,
    affine,
    box_coxed,
    column_parameters,
    logarithmic,
    powered,
    scored,
    transformed,
)
from kernels.scores.links import apply_link, sigmoid

BLOCK_ROWS = 1024
"""Rows whose sums stay in the first-level cache while the columns pass by."""
CHUNK_ROWS = 256
"""Rows of a column between two groups of prefetches; one at a time would break the loops' vectors."""


VALUES, VALID, FIRST = 0, 1, 2
"""Where a column is: addresses of its values and of its bitmap (0 if it has none), the bitmap's first bit."""
NO_LINK, SIGMOID = 0, 1

Bitmap = tuple[NDArray[np.uint8], int]


@kernel
def add_rows(
    coef: NDArray[np.float64],
    intercept: NDArray[np.float64],
    columns: NDArray[Any],
    knots: NDArray[np.float64],
    tables: NDArray[Any],
    edges: NDArray[np.float64],
    weights: NDArray[np.float64],
    X: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Write the margins of rows to ``out``.

    Args:
        coef: C-order float64[K, T].
        intercept: float64[K].
        columns: COLUMN[T].
        knots: C-order float64[4, N], of all terms.
        tables: TABLE[M].
        edges: float64[E], of all tables.
        weights: C-order float64[W, K], of all tables.
        X: C-order float32 or float64[n, F]; NaN is missing.
        out: C-order float64[n, K].
    """
    row_values = np.empty(coef.shape[1])
    for row in range(X.shape[0]):
        for term in range(coef.shape[1]):
            row_values[term] = transformed(np.float64(X[row, columns[term].source]), columns[term], knots)
        for k in range(coef.shape[0]):
            margin = 0.0
            for term in range(coef.shape[1]):
                margin += coef[k, term] * row_values[term]
            out[row, k] = margin
        for number in range(len(tables)):
            entry = entry_of(np.float64(X[row, tables[number].source]), tables[number], edges)
            for k in range(coef.shape[0]):
                out[row, k] += weights[entry, k]
        for k in range(coef.shape[0]):
            out[row, k] += intercept[k]


@kernel
def add_columns(
    coef: NDArray[np.float64],
    intercept: NDArray[np.float64],
    columns: NDArray[Any],
    knots: NDArray[np.float64],
    tables: NDArray[Any],
    edges: NDArray[np.float64],
    weights: NDArray[np.float64],
    places: NDArray[np.int64],
    example: NDArray[Any],
    link: int,
    scale: float,
    out: NDArray[Any],
) -> None:
    """Write the margins, or their sigmoids, of rows to ``out``.

    Args:
        coef: C-order float64[K, T].
        intercept: float64[K].
        columns: COLUMN[T].
        knots: C-order float64[4, N], of all terms.
        tables: TABLE[M].
        edges: float64[E], of all tables.
        weights: C-order float64[W, K], of all tables.
        places: int64[F, 3], VALUES, VALID and FIRST of contiguous columns of n values.
        example: An array of the columns' type; its values do not matter.
        link: NO_LINK or SIGMOID.
        scale: Of the sigmoid.
        out: C-order float64[n, K].
    """
    n, n_outputs = out.shape
    sums = np.empty((n_outputs, BLOCK_ROWS))
    numbers = np.empty(CHUNK_ROWS)
    values = np.empty(CHUNK_ROWS, example.dtype)
    for start in range(0, n, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, n)
        sums[:] = 0.0
        for term in range(coef.shape[1]):
            c = columns[term]
            steps, impute, low, high, shift = c.steps, c.impute, c.low, c.high, c.shift
            curve_shift, curve_factor, power = c.curve_shift, c.curve_factor, c.power
            for row in range(start, end, CHUNK_ROWS):
                fetch_next(places, columns, term, row, example.itemsize)
                size, first = min(CHUNK_ROWS, end - row), row - start
                chunk = carray(
                    pointer_at(values_at(places, c.source, row, size, values)), size, example.dtype
                )
                if steps == QUANTILES:
                    for i in range(size):
                        numbers[i] = scored(np.float64(chunk[i]), c, knots)
                    for k in range(n_outputs):
                        weight, to = coef[k, term], sums[k, first:]
                        add(PLAIN, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, weight, numbers[:size], to)
                elif n_outputs == 1:
                    weight, to = coef[0, term], sums[0, first:]
                    add(steps, impute, low, high, curve_shift, curve_factor, power, shift, weight, chunk, to)
                else:
                    numbers[:] = 0.0
                    add(
                        steps, impute, low, high, curve_shift, curve_factor, power, shift, 1.0, chunk, numbers
                    )
                    for k in range(n_outputs):
                        weight, to = coef[k, term], sums[k, first:]
                        add(PLAIN, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, weight, numbers[:size], to)
        for number in range(len(tables)):
            table = tables[number]
            for row in range(start, end, CHUNK_ROWS):
                size, first = min(CHUNK_ROWS, end - row), row - start
                chunk = carray(
                    pointer_at(values_at(places, table.source, row, size, values)), size, example.dtype
                )
                for i in range(size):
                    entry = entry_of(np.float64(chunk[i]), table, edges)
                    for k in range(n_outputs):
                        sums[k, first + i] += weights[entry, k]
        finish(sums, intercept, link, scale, out[start:end])


@inlined
def fetch_next(places: NDArray[np.int64], columns: NDArray[Any], term: int, row: int, itemsize: int) -> None:
    """Prefetch what follows: the same rows of the next term, or of the first one's next block."""
    if term + 1 < len(columns):
        place = places[columns[term + 1].source, VALUES] + row * itemsize
    else:
        place = places[columns[0].source, VALUES] + (row + BLOCK_ROWS) * itemsize
    for byte in range(0, CHUNK_ROWS * itemsize, LINE_BYTES):
        prefetch(place + byte)


@inlined
def values_at(places: NDArray[np.int64], source: int, row: int, size: int, values: NDArray[Any]) -> int:
    """Where ``size`` values of a column are from ``row`` on: in the column, or copied to ``values``."""
    place = places[source, VALUES] + row * values.itemsize
    if places[source, VALID]:
        return copy_valid(places[source, VALID], places[source, FIRST] + row, place, size, values)
    return place


@inlined
def copy_valid(bitmap: int, first: int, place: int, size: int, values: NDArray[Any]) -> int:
    """Copy values at ``place`` to ``values``, NaN where their bit is 0, and return where that is."""
    valid = carray(pointer_at(bitmap + (first >> 3)), ((first & 7) + size + 7) >> 3, np.uint8)
    blank_invalid(valid, first & 7, carray(pointer_at(place), size, values.dtype), values)
    return int(values.ctypes.data)


@inlined
def add(
    steps: int,
    impute: float,
    low: float,
    high: float,
    curve_shift: float,
    curve_factor: float,
    power: float,
    shift: float,
    weight: float,
    values: NDArray[Any],
    sums: NDArray[np.float64],
) -> None:
    """Add ``weight`` times each transformed value to the sums."""
    wide_vectors()
    if steps == PLAIN:
        for i in range(len(values)):
            sums[i] += weight * np.float64(values[i])
    elif steps == AFFINE:
        for i in range(len(values)):
            sums[i] += weight * affine(np.float64(values[i]), impute, low, high, shift)
    elif steps == LOGARITHM:
        for i in range(len(values)):
            x = np.float64(values[i])
            sums[i] += weight * logarithmic(x, impute, low, high, curve_shift, curve_factor, shift)
    elif steps == BOX_COX:
        for i in range(len(values)):
            x = np.float64(values[i])
            sums[i] += weight * box_coxed(x, impute, low, high, curve_shift, curve_factor, power, shift)
    else:
        for i in range(len(values)):
            x = np.float64(values[i])
            sums[i] += weight * powered(x, impute, low, high, curve_shift, curve_factor, power, shift)


@inlined
def finish(
    sums: NDArray[np.float64],
    intercept: NDArray[np.float64],
    link: int,
    scale: float,
    out: NDArray[np.float64],
) -> None:
    """Add the intercepts to the sums [K, n], apply the link and write them to ``out`` [n, K]."""
    if out.shape[1] == 1:
        flat = out.reshape(out.size)
        link_sums(sums[0], intercept[0], link, scale, flat)
        return
    for k in range(out.shape[1]):
        link_sums(sums[k], intercept[k], link, scale, sums[k, : len(out)])
        for row in range(len(out)):
            out[row, k] = sums[k, row]


@inlined
def link_sums(
    sums: NDArray[np.float64], intercept: float, link: int, scale: float, out: NDArray[np.float64]
) -> None:
    """Write the scores of an output's sums, as many as ``out`` holds."""
    wide_vectors()
    if link == SIGMOID:
        for row in range(len(out)):
            out[row] = sigmoid(scale * (sums[row] + intercept))
    else:
        for row in range(len(out)):
            out[row] = sums[row] + intercept


@kernel
def address_of(values: NDArray[Any]) -> int:
    """Where an array starts in memory; NumPy takes seven times as long to say so."""
    return int(values.ctypes.data)


class Linear:
    """A linear model ready to be scored. Calls may run at the same time in several threads."""

    name = "linear"

    def __init__(
        self,
        coef: NDArray[np.float64],
        intercept: NDArray[np.float64],
        transforms: Sequence[Transform] | None = None,
    ) -> None:
        """``coef`` is [K, F], ``intercept`` [K]; without ``transforms`` features are weighed as they are."""
        n_features = coef.shape[1]
        transforms = [Transform()] * n_features if transforms is None else transforms
        self._prepare(Terms(coef, intercept, range(n_features), transforms), n_features)

    @classmethod
    def of_terms(cls, terms: Terms, n_features: int) -> Self:
        """A model of terms and tables over ``n_features`` columns."""
        model = cls.__new__(cls)
        model._prepare(terms, n_features)
        return model

    def _prepare(self, terms: Terms, n_features: int) -> None:
        scales = np.array([transform.scale for transform in terms.transforms])
        self._n_features = n_features
        self._model = (
            np.ascontiguousarray(terms.coef / scales, np.float64),
            np.ascontiguousarray(terms.intercept, np.float64),
            column_parameters(terms.transforms, terms.sources),
            knots_of([transform.quantiles for transform in terms.transforms]),
            *table_parameters(terms.tables, len(terms.intercept)),
        )

    def score_rows(self, X: NDArray[Any], out: NDArray[np.float64]) -> None:
        """Write the margins of ``X``, C-order float32 or float64[n, F], to ``out``, C-order float64[n, K]."""
        add_rows(*self._model, X, out)

    def score_columns(
        self,
        columns: Sequence[NDArray[Any]],
        out: NDArray[np.float64],
        *,
        valid: Sequence[Bitmap | None] | None = None,
        link: str = "identity",
        scale: float = 1.0,
    ) -> None:
        """Write the margins, or their scores, of columns to ``out``.

        Args:
            columns: F contiguous arrays [n] of one type, float32 or float64; NaN is missing.
            out: C-order float64[n, K].
            valid: For each column, the Arrow validity bitmap and the bit of row 0, or ``None``.
            link: As in ``links.apply_link``; the sigmoid is taken while the sums are in the cache.
            scale: Of the sigmoid.
        """
        if len(columns) != self._n_features:
            raise ValueError(f"expected {self._n_features} columns, got {len(columns)}")
        places = np.zeros((len(columns), 3), np.int64)
        places[:, VALUES] = [address_of(column) for column in columns]
        for feature, bitmap in enumerate(valid or ()):
            if bitmap is not None:
                places[feature, VALID:] = address_of(bitmap[0]), bitmap[1]
        example = columns[0][:0] if columns else np.empty(0)
        fused = SIGMOID if link == "sigmoid" else NO_LINK
        add_columns(*self._model, places, example, fused, scale, out)
        if link not in ("identity", "sigmoid"):
            apply_link(link, scale, out, out)
