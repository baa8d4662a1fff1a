"""A column of an Arrow table as numbers: from its buffers, without a copy where its type already fits.

Whole-column tests find the rows that may be bad; ``Rule`` then decides on each of them and finds the
words. Which types a feature takes, ``column_types`` says.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.prepare.buffers import NO_ROWS, Chunk, Floats, Rows, blank_missing, rounded, values_of
from engine.prepare.categories import CategoryReader
from engine.prepare.rules import INTEGER_TYPES, BadValue, Rule, bounds
from engine.schema import Feature
from kernels.columns.passes import count_odd

TILE_ROWS = 16_384
"""Rows converted at a time, so that what is between two types stays in the cache."""

_ENCODED = (pa.ExtensionArray, pa.DictionaryArray, pa.RunEndEncodedArray)


class ColumnReader:
    """Reads the columns of one feature."""

    def __init__(self, rule: Rule, dtype: np.dtype) -> None:
        self._rule = rule
        self._feature = rule.feature
        self._categories = CategoryReader(rule) if rule.feature.type == "category" else None
        self._dtype = dtype
        self._takes_as_it_is = rule.feature.type in ("float64", dtype.name)
        self._always_inside = _types_inside(rule.feature)

    def read(self, column: Chunk, out: Floats) -> tuple[Floats, dict[int, str]]:
        """The numbers of a column, and its bad rows with the reason.

        Args:
            column: Of a type that ``column_types`` lets pass; sliced as it likes.
            out: Contiguous [n] of the block's type, written unless the column's memory is what is asked for.

        Returns:
            ``out`` or a read-only view of the column; NaN where the value is missing, unspecified in
            bad rows. Numbers too large for a type become infinite, with a warning of NumPy's.
        """
        numbers, suspects = out, NO_ROWS
        plain = _plain(self._feature, column) if isinstance(column, _ENCODED) else column
        if isinstance(plain, pa.NullArray):
            out[:] = np.nan
        elif self._categories is not None:
            suspects = self._categories.read(plain, out)
        else:
            numbers, suspects = self._read_numbers(plain, out)
        if self._feature.required:
            suspects = np.union1d(suspects, np.flatnonzero(np.isnan(numbers)))
        return numbers, self._reasons(column, suspects) if len(suspects) else {}

    def _read_numbers(self, chunk: Chunk, out: Floats) -> tuple[Floats, Rows]:
        values = values_of(chunk)
        if self._takes_as_it_is and values.dtype == self._dtype:
            return blank_missing(chunk, values, out), NO_ROWS
        suspects = [self._convert(values, out, start) for start in range(0, len(out), TILE_ROWS)]
        blank_missing(chunk, out, out)
        return out, suspects[0] if len(suspects) == 1 else np.concatenate([NO_ROWS, *suspects])

    def _convert(self, values: NDArray[Any], out: Floats, start: int) -> Rows:
        """Write a tile to ``out``; its rows that may be bad."""
        tile = values[start : start + TILE_ROWS]
        out[start : start + TILE_ROWS] = rounded(self._feature, tile, self._dtype)
        if tile.dtype in self._always_inside:
            return NO_ROWS
        return start + _outside(self._feature, tile)

    def _reasons(self, chunk: Chunk, suspects: Rows) -> dict[int, str]:
        reasons: dict[int, str] = {}
        for row in suspects.tolist():
            try:
                self._rule(chunk[row].as_py())
            except BadValue as bad:
                reasons[row] = str(bad)
        return reasons


def _plain(feature: Feature, chunk: Chunk) -> Chunk:
    """Without extension types, runs, and dictionaries unless they are of a category."""
    if isinstance(chunk, pa.ExtensionArray):
        return _plain(feature, chunk.storage)
    if pa.types.is_run_end_encoded(chunk.type):
        import pyarrow.compute as pc  # here, since it takes long and few tables need it

        return _plain(feature, pc.call_function("run_end_decode", [chunk]))
    if isinstance(chunk, pa.DictionaryArray):
        worth_it = feature.type == "category" and len(chunk.dictionary) <= 2 * len(chunk)
        return chunk if worth_it else _plain(feature, chunk.dictionary_decode())
    return chunk


def _types_inside(feature: Feature) -> frozenset[np.dtype]:
    """The types of which no value can break the feature's rules."""
    if feature.type not in INTEGER_TYPES:
        return frozenset(map(np.dtype, "efdbhilqBHILQ"))
    low, high = bounds(feature)
    limits = {np.dtype(letter): np.iinfo(letter) for letter in "bhilqBHILQ"}
    return frozenset(dtype for dtype, info in limits.items() if low <= info.min and info.max <= high)


def _outside(feature: Feature, values: NDArray[Any]) -> Rows:
    """Rows that are no whole number in an integer feature's range, garbage of null rows included."""
    low, high = bounds(feature)
    if values.dtype.kind == "f":
        wide = values.astype(np.float32) if values.dtype.itemsize == 2 else values
        if not count_odd(wide, float(low), float(high) + 1):
            return NO_ROWS
        inside = (np.floor(wide) == wide) & (wide >= float(low)) & (wide < float(high) + 1)
        return np.flatnonzero(~(inside | np.isnan(wide)))
    if int(values.min()) >= low and int(values.max()) <= high:
        return NO_ROWS
    return np.flatnonzero((values < low) | (values > high))
