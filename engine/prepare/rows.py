"""Rows of Python values as a block: a fast way for ordinary rows, a careful one that finds the reason.

Ordinary is a dict or tuple whose numbers are all floats, integers or null and whose categories are known:
one kernel writes the numbers of many rows in a call, and their categories are looked up. Whatever else a row
may be, the careful way decides with each feature's ``Rule``; the fast way only ever gives the same numbers
sooner.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from types import NoneType
from typing import Any

import msgspec
import numpy as np

from engine.prepare.buffers import Floats
from engine.prepare.rules import INTEGER_TYPES, MISSING, BadValue, Rule, bounds, in_words
from engine.schema import Feature, Schema
from kernels.columns.hashing import bucket_of
from kernels.objects import ROWS_AT_ONCE, Number, WriteRows, row_writers

Pick = Callable[[Any], tuple[Any, ...]]
Prepared = tuple[Floats, dict[int, str]]

ORDINARY_INTEGERS = frozenset({int, float, NoneType})
_ABSENT = object()


def row_type(schema: Schema) -> type[msgspec.Struct]:
    """A ``msgspec.Struct`` that decodes one JSON row of the schema.

    Decoding already refuses absent keys, strings and booleans for numbers and numbers for strings;
    ranges, whole numbers and categories are checked later. Extra keys are ignored.
    """
    names = [f"f{place}" for place in range(len(schema.features))]
    fields = [(name, _json_type(feature)) for name, feature in zip(names, schema.features, strict=True)]
    rename = dict(zip(names, schema.names, strict=True))
    return msgspec.defstruct("Row", fields, rename=rename, frozen=True, gc=False)


def _json_type(feature: Feature) -> Any:
    if feature.type == "category" and Rule(feature).of_strings:
        return str | None
    if feature.type == "bool":
        return bool | int | float | None
    if feature.type == "category" or feature.type in INTEGER_TYPES:
        return int | float | None
    return float | None


class RowReader:
    """Turns rows into blocks of one schema."""

    def __init__(self, schema: Schema, rules: Sequence[Rule]) -> None:
        self._names = schema.names
        self._n_features = len(schema.names)
        self._rules = rules
        self._dtype = schema.dtype
        others = [place for place, rule in enumerate(rules) if rule.feature.type == "category"]
        numbers = [
            _number(feature, place)
            for place, feature in enumerate(schema.features)
            if feature.type != "category"
        ]
        self._write_mappings, self._write_tuples = row_writers(numbers, schema.dtype)
        self._others_of_mapping = _picker([self._names[place] for place in others])
        self._others_of_tuple = _picker(others)
        self._lookups = [(place, _lookup(rules[place])) for place in others]
        self._singles = [place for place, rule in enumerate(rules) if rule.feature.type == "float32"]

    def mappings(self, rows: Sequence[Mapping[str, object]]) -> Prepared:
        """Rows as decoded JSON objects; other mappings than dicts take longer."""
        rows = rows if type(rows) is list else list(rows)
        return self._read(rows, self._write_mappings, self._others_of_mapping)

    def tuples(self, rows: list[tuple[object, ...]]) -> Prepared:
        """Rows as values of any kind in the order of the schema."""
        return self._read(rows, self._write_tuples, self._others_of_tuple)

    def _read(self, rows: list[Any], write: WriteRows, others_of: Pick) -> Prepared:
        n_rows = len(rows)
        X: Floats = np.empty((n_rows, self._n_features), self._dtype)
        bad: dict[int, str] = {}
        first = 0
        while first < n_rows:
            end = write(id(rows), first, X)
            if self._lookups:
                self._look_up(X, rows, first, end, others_of, bad)
            if end < n_rows and end < first + ROWS_AT_ONCE:  # it stopped at a row that is not ordinary
                self._careful(X, end, rows[end], bad)
                end += 1
            first = end
        return X, bad

    def _look_up(
        self, X: Floats, rows: list[Any], first: int, end: int, others_of: Pick, bad: dict[int, str]
    ) -> None:
        """Write the categories of the rows ``first`` to ``end``."""
        flat: Any = X.reshape(-1).data
        for at in range(first, end):
            start = at * self._n_features
            try:
                for (place, lookup), value in zip(self._lookups, others_of(rows[at]), strict=True):
                    flat[start + place] = lookup[value]
            except (LookupError, TypeError):
                self._careful(X, at, rows[at], bad)

    def _careful(self, X: Floats, at: int, row: Any, bad: dict[int, str]) -> None:
        """Write a row by its rules; note the reason if it is bad."""
        try:
            numbers = np.array(
                [rule(value) for rule, value in zip(self._rules, self._values(row), strict=True)]
            )
        except BadValue as reason:
            X[at] = MISSING
            bad[at] = str(reason)
            return
        with np.errstate(over="ignore"):
            numbers[self._singles] = numbers[self._singles].astype(np.float32)
            X[at] = numbers

    def _values(self, row: Any) -> Iterable[object]:
        if isinstance(row, tuple):
            return row
        if not isinstance(row, Mapping):
            raise BadValue(f"expected an object with the features as keys, got {in_words(row)}")
        return (self._value(row, name) for name in self._names)

    def _value(self, row: Mapping[str, object], name: str) -> object:
        value = row.get(name, _ABSENT)
        if value is _ABSENT:
            raise BadValue(f"feature '{name}' is missing; send null for a missing value")
        return value


def _number(feature: Feature, place: int) -> Number:
    return Number(
        feature.name,
        place,
        bounds=bounds(feature) if feature.type in INTEGER_TYPES else None,
        is_bool=feature.type == "bool",
        is_single=feature.type == "float32",
        is_required=feature.required,
    )


class _Lookup(dict[object, float]):
    """The numbers of a category's values; raises ``LookupError`` for the careful way."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule.codes)
        if not rule.feature.required:
            self[None] = MISSING
        unseen = rule.unseen_code
        refused = rule.feature.unseen == "bad" or (rule.feature.required and unseen != unseen)
        self._buckets = rule.feature.buckets or 0
        self._unseen = None if refused or not rule.of_strings else unseen

    def __missing__(self, value: object) -> float:
        if self._buckets and type(value) is str:
            return bucket_of(value, self._buckets)
        if self._unseen is None or type(value) is not str:
            raise LookupError
        return self._unseen


class _IntegerLookup(_Lookup):
    """The same for integer categories: True is none, nor is a Decimal, though they may be equal to one."""

    def __getitem__(self, value: object) -> float:
        if type(value) not in ORDINARY_INTEGERS:
            raise LookupError
        return super().__getitem__(value)


def _lookup(rule: Rule) -> _Lookup:
    return _Lookup(rule) if rule.of_strings else _IntegerLookup(rule)


def _picker(keys: Sequence[Any]) -> Pick:
    """Like ``itemgetter``, but always to a tuple."""
    if not keys:
        return lambda _: ()
    if len(keys) == 1:
        return lambda row: (row[keys[0]],)
    return itemgetter(*keys)
