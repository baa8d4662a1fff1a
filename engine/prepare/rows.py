"""Rows of Python values as a block: a fast way for ordinary rows, a careful one that finds the reason.

Ordinary is a row whose numbers are all floats, integers or null and whose categories are known: its
numbers are packed by ``struct``, its categories looked up. Whatever else it may be, the careful way
decides with each feature's ``Rule``; the fast way only ever gives the same numbers sooner.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from types import NoneType
from typing import Any

import msgspec
import numpy as np

from engine.prepare.buffers import Floats
from engine.prepare.rules import INTEGER_TYPES, MISSING, BadValue, Rule, in_words
from engine.schema import Feature, Schema
from kernels.columns.hashing import bucket_of

Pick = Callable[[Any], tuple[Any, ...]]
Prepared = tuple[Floats, dict[int, str]]

_NUMBERS = frozenset({float, int, NoneType})
_RANGES = {
    "int8": "b", "int16": "h", "int32": "i", "int64": "q",
    "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q",
}  # fmt: skip
ODD = (LookupError, TypeError, AttributeError, OverflowError, struct.error, BadValue)
"""What the fast way raises where a row is not an ordinary one."""
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
        self._rules = rules
        self._dtype = schema.dtype
        packed = [place for place, rule in enumerate(rules) if not _looked_up(rule)]
        others = [place for place, rule in enumerate(rules) if _looked_up(rule)]
        self._numbers_of_mapping = _picker([self._names[place] for place in packed])
        self._others_of_mapping = _picker([self._names[place] for place in others])
        self._numbers_of_tuple = _picker(packed)
        self._others_of_tuple = _picker(others)
        self._lookups = [(place, _lookup(rules[place])) for place in others]
        self._packing = _Packing(schema, packed)
        self._singles = [place for place, rule in enumerate(rules) if rule.feature.type == "float32"]

    def mappings(self, rows: Sequence[Mapping[str, object]]) -> Prepared:
        """Rows as decoded JSON objects."""
        X = self._block(len(rows))
        return self._read(X, rows, self._numbers_of_mapping, self._others_of_mapping, self._packing.write)

    def tuples(self, rows: Iterable[tuple[object, ...]], n_rows: int) -> Prepared:
        """Rows as values of any kind in the order of the schema."""
        X = self._block(n_rows)
        return self._read(X, rows, self._numbers_of_tuple, self._others_of_tuple, self._packing.write)

    def typed_tuples(self, rows: Iterable[tuple[object, ...]], n_rows: int) -> Prepared:
        """Rows as values of the types of ``row_type``, which are not checked again."""
        X = self._block(n_rows)
        return self._read(X, rows, self._numbers_of_tuple, self._others_of_tuple, self._packing.write_typed)

    def _block(self, n_rows: int) -> Floats:
        return np.empty((n_rows, len(self._names)), self._dtype)

    def _read(
        self, X: Floats, rows: Iterable[Any], numbers_of: Pick, others_of: Pick, write: Callable[..., None]
    ) -> Prepared:
        bad: dict[int, str] = {}
        if not X.size:
            return X, bad
        width, lookups = len(self._names), self._lookups
        flat = X.reshape(-1).data if lookups else X
        for at, row in enumerate(rows):
            try:
                write(flat, at, numbers_of(row))
                if lookups:
                    for (place, lookup), value in zip(lookups, others_of(row), strict=True):
                        flat[at * width + place] = lookup[value]  # type: ignore[call-overload]
            except ODD:
                reason = self._careful(X, at, row)
                if reason is not None:
                    bad[at] = reason
        return X, bad

    def _careful(self, X: Floats, at: int, row: Any) -> str | None:
        """Write a row by its rules; the reason if it is bad."""
        try:
            numbers = np.array(
                [rule(value) for rule, value in zip(self._rules, self._values(row), strict=True)]
            )
        except BadValue as bad:
            X[at] = MISSING
            return str(bad)
        with np.errstate(over="ignore"):
            numbers[self._singles] = numbers[self._singles].astype(np.float32)
            X[at] = numbers
        return None

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


class _Packing:
    """Writes the numeric features of a row into their places, categories' places between them."""

    def __init__(self, schema: Schema, packed: Sequence[int]) -> None:
        features = [schema.features[place] for place in packed]
        gap = f"{schema.dtype.itemsize}x"
        places = range(len(schema.features))
        self._row_bytes = schema.dtype.itemsize * len(places)
        self._row = struct.Struct("=" + "".join(schema.dtype.char if p in packed else gap for p in places))
        self._required = any(feature.required for feature in features)
        integers = [place for place, feature in enumerate(features) if feature.type in _RANGES]
        self._integers_of = _picker(integers)
        self._ranges = struct.Struct("=" + "".join(_RANGES[features[place].type] for place in integers))
        rounds = schema.block == "float64" and any(feature.type == "float32" for feature in features)
        kinds = "".join("f" if feature.type == "float32" else "d" for feature in features)
        self._rounding = struct.Struct("=" + kinds) if rounds else None

    def write(self, flat: Any, row: int, numbers: Sequence[Any]) -> None:
        """Pack ``numbers`` into a row of ``flat``; raises one of ``ODD`` where one of them is odd."""
        kinds = {*map(type, numbers)}
        if not kinds <= _NUMBERS:
            raise TypeError
        self._write(flat, row, numbers, has_null=NoneType in kinds)

    def write_typed(self, flat: Any, row: int, numbers: Sequence[Any]) -> None:
        """The same for numbers that are known to be floats, integers or null."""
        self._write(flat, row, numbers, has_null=None in numbers)

    def _write(self, flat: Any, row: int, numbers: Sequence[Any], *, has_null: bool) -> None:
        if self._ranges.size:
            integers = self._integers_of(numbers)
            self._ranges.pack(*(_with(0, integers) if has_null else integers))
        if has_null:
            numbers = _with(MISSING, numbers)
        if self._required and (total := sum(numbers)) != total:
            raise TypeError
        if self._rounding is not None:
            numbers = self._rounding.unpack(self._rounding.pack(*numbers))
        self._row.pack_into(flat, row * self._row_bytes, *numbers)


def _with(value: float, numbers: Sequence[Any]) -> list[Any]:
    """The numbers with ``value`` in the place of null."""
    return [value if number is None else number for number in numbers]


class _Lookup(dict[object, float]):
    """The numbers of a category's or boolean's values; raises ``LookupError`` for the careful way."""

    def __init__(self, rule: Rule) -> None:
        super().__init__({False: 0.0, True: 1.0} if rule.feature.type == "bool" else {**rule.codes})
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
    """The same for integer categories, of which True is none."""

    def __getitem__(self, value: object) -> float:
        if value is True or value is False:
            raise LookupError
        return super().__getitem__(value)


def _lookup(rule: Rule) -> _Lookup:
    integers = rule.feature.type == "category" and not rule.of_strings
    return _IntegerLookup(rule) if integers else _Lookup(rule)


def _looked_up(rule: Rule) -> bool:
    return rule.feature.type in ("category", "bool")


def _picker(keys: Sequence[Any]) -> Pick:
    """Like ``itemgetter``, but always to a tuple."""
    if not keys:
        return lambda _: ()
    if len(keys) == 1:
        return lambda row: (row[keys[0]],)
    return itemgetter(*keys)
