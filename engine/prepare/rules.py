"""The rules that one value of a feature must keep, and the words that say how it broke one.

    float32, float64    any number, infinite where it is beyond the type; booleans and strings are refused
    int8 … uint64       a whole number in range, 3.0 included (pandas has no integers with missing ones)
    bool                true, false, 0 or 1
    category            a string, or a whole number, as the categories are; the others by ``unseen``;
                        with buckets, any string

Every door ends here: rows value by value, columns for the few values that a whole-column test found
suspicious. So a row is bad for the same reason whichever way it came.
"""

import math
from collections.abc import Mapping
from types import NoneType

import numpy as np

from engine.schema import Feature

MISSING = math.nan
INTEGER_TYPES = frozenset({"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})
LONGEST_QUOTE = 60
"""Characters of an unknown category that a reason repeats."""

_WORDS: dict[type, str] = {
    NoneType: "null",
    bool: "a boolean",
    np.bool_: "a boolean",
    str: "a string",
    bytes: "bytes",
    dict: "an object",
    list: "an array",
    tuple: "an array",
}


class BadValue(ValueError):
    """A value breaks a rule of its feature; ``str(error)`` is the reason in words."""


def bounds(feature: Feature) -> tuple[int, int]:
    """The least and the largest value that a feature of an integer type (or bool) takes."""
    if feature.type == "bool":
        return 0, 1
    limits = np.iinfo(feature.type)
    return int(limits.min), int(limits.max)


def codes(feature: Feature) -> dict[object, float]:
    """The code of every category, as the float it is in a block."""
    return {category: float(code) for code, category in enumerate(feature.categories)}


def holds_strings(feature: Feature) -> bool:
    """Whether a category's values are strings; integers otherwise."""
    return not feature.categories or isinstance(feature.categories[0], str)


class Rule:
    """One feature's rules: ``rule(value)`` is the number that goes into the block, before rounding.

    ``None`` is a missing value, and so is NaN. Raises ``BadValue``.
    """

    def __init__(self, feature: Feature) -> None:
        self.feature = feature
        self.codes: Mapping[object, float] = codes(feature)
        self.of_strings = holds_strings(feature)
        self.unseen_code = float(len(self.codes)) if feature.unseen == "other" else MISSING
        self._bounds = bounds(feature) if feature.type in INTEGER_TYPES else (0, 0)

    def __call__(self, value: object) -> float:
        """The number of one Python or NumPy value."""
        if value is None or (isinstance(value, float | np.floating) and value != value):
            number = MISSING
        elif self.feature.type == "category":
            number = self._category(value)
        elif self.feature.type in INTEGER_TYPES:
            number = self._integer(value)
        else:
            number = self._float(value)
        if number != number and self.feature.required:
            raise self.bad("required value missing" if value is None or value != value else _unknown(value))
        return number

    def bad(self, reason: str) -> BadValue:
        """The error that names the feature beside the reason."""
        return BadValue(f"feature '{self.feature.name}': {reason}")

    def _float(self, value: object) -> float:
        if not _is_number(value):
            raise self.bad(f"expected a number, got {in_words(value)}")
        try:
            return float(value)  # type: ignore[arg-type]
        except OverflowError:
            raise self.bad("a number beyond float64") from None

    def _integer(self, value: object) -> float:
        if self.feature.type == "bool":
            if isinstance(value, bool | np.bool_):
                return float(value)
            if not _is_number(value) or value not in (0, 1):
                raise self.bad(f"expected true or false, got {in_words(value)}")
            return float(value) + 0.0  # no -0.0
        number = self._whole(value)
        low, high = self._bounds
        if not low <= number <= high:
            raise self.bad(f"{in_words(number)} is out of {self.feature.type} range")
        return float(number)

    def _whole(self, value: object) -> int:
        if not _is_number(value):
            raise self.bad(f"expected an integer, got {in_words(value)}")
        if isinstance(value, float | np.floating) and not float(value).is_integer():
            raise self.bad(f"expected an integer, got {in_words(value)}")
        return int(value)  # type: ignore[call-overload]

    def _category(self, value: object) -> float:
        if not self.of_strings:
            value = self._whole(value)
        elif not isinstance(value, str):
            raise self.bad(f"expected a string, got {in_words(value)}")
        if self.feature.buckets:
            from kernels.columns.hashing import bucket_of  # here, since plans are made without a compiler

            return bucket_of(str(value), self.feature.buckets)
        code = self.codes.get(value)
        if code is not None:
            return code
        if self.feature.unseen == "bad":
            raise self.bad(_unknown(value))
        return self.unseen_code


def in_words(value: object) -> str:
    """What a value is, for a message: numbers as they are, everything else by its kind."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge integer"
    if _is_number(value):
        return str(value)
    return _WORDS.get(type(value), f"a {type(value).__name__}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _unknown(value: object) -> str:
    text = value if isinstance(value, str) else in_words(value)
    return f"unknown category '{text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + '…'}'"
