"""Categories of an Arrow column as codes: looked up per dictionary entry, or per row where there is none."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.prepare.buffers import NO_ROWS, Chunk, Floats, Rows, blank_missing, values_of, view_of
from engine.prepare.rules import Rule
from engine.schema import Feature
from kernels.columns.category_lookup import CategoryTable, find_integers, find_strings
from kernels.columns.hashing import hash_strings
from kernels.columns.passes import look_up

REFUSED = -1.0
"""What stands for an unseen category while the rows that have one are looked for."""

_INT32, _INT64, _BYTE = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.uint8)


class CategoryReader:
    """Looks up the categories of one feature."""

    def __init__(self, rule: Rule) -> None:
        self._of_strings = rule.of_strings
        self._table = table_of(rule.feature)
        self._buckets = rule.feature.buckets or 0
        self._refuses = rule.feature.unseen == "bad"
        self._unseen = REFUSED if self._refuses else rule.unseen_code

    def read(self, chunk: Chunk, out: Floats) -> Rows:
        """Write codes to ``out`` [n], NaN where the value is missing; returns rows that may be bad.

        Args:
            chunk: Strings, numbers, or a dictionary of them.
            out: What it holds in bad rows is unspecified.
        """
        if isinstance(chunk, pa.DictionaryArray):
            return self._read_dictionary(chunk, out)
        suspects = self._find_strings(chunk, out) if self._of_strings else self._find_numbers(chunk, out)
        if self._refuses:
            suspects = np.union1d(suspects, np.flatnonzero(out == REFUSED))
        blank_missing(chunk, out, out)
        return suspects

    def _read_dictionary(self, chunk: "pa.DictionaryArray[Any, Any]", out: Floats) -> Rows:
        entries = np.empty(len(chunk.dictionary), out.dtype)
        suspects = self.read(chunk.dictionary, entries)
        indices = _narrow(values_of(chunk.indices))
        look_up(indices, entries, out)
        blank_missing(chunk.indices, out, out)
        return np.flatnonzero(np.isin(indices, suspects)) if len(suspects) else NO_ROWS

    def _find_strings(self, chunk: Chunk, out: Floats) -> Rows:
        if isinstance(chunk, pa.StringViewArray):
            chunk = chunk.cast(pa.large_string())
        wide = isinstance(chunk, pa.LargeStringArray)
        _, starts, text = chunk.buffers()
        offsets = view_of(starts, _INT64 if wide else _INT32, len(chunk) + 1, chunk.offset)
        data = view_of(text, _BYTE)
        if self._buckets:
            hash_strings(offsets, data, self._buckets, out)
            return NO_ROWS
        find_strings(self._table.slots, self._table.text, offsets, data, self._unseen, out)
        return NO_ROWS

    def _find_numbers(self, chunk: Chunk, out: Floats) -> Rows:
        values = values_of(chunk)
        whole = _whole(values)
        find_integers(self._table.slots, whole, self._unseen, out)
        if values.dtype.kind != "f" and values.dtype != np.uint64:
            return NO_ROWS
        odd = np.flatnonzero(whole != values)  # a fraction, NaN, or past the ends of int64
        out[odd] = self._unseen
        out[np.isnan(values)] = np.nan
        return odd


def table_of(feature: Feature) -> CategoryTable:
    """The hash table of a category's values."""
    categories = feature.categories
    strings = [category.encode() for category in categories if isinstance(category, str)]
    if strings or not categories:
        return CategoryTable.of_strings(strings)
    return CategoryTable.of_integers([int(category) for category in categories])


def _narrow(indices: NDArray[Any]) -> NDArray[np.int32]:
    """As int32, read-only, so that one compiled kernel serves all; what does not fit is past the ends."""
    if indices.dtype.itemsize == 8:
        indices = np.clip(indices, 0, 2**31 - 1)
    narrow = indices.view(np.int32) if indices.dtype.itemsize == 4 else indices.astype(np.int32)
    narrow.flags.writeable = False
    return narrow


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    """As int64, read-only; what does not fit becomes some other number."""
    if values.dtype == np.uint64:
        values = np.minimum(values, np.uint64(2**63 - 1))
    whole = values.astype(np.int64)
    whole.flags.writeable = False
    return whole
