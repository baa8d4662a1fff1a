"""Each rule of a feature, and the words for what breaks it."""

import math

import numpy as np
import pytest

from engine.prepare.rules import BadValue, Rule
from engine.schema import Feature

AIRLINES = ("AA", "UA")


@pytest.mark.parametrize(
    ("feature", "value", "number"),
    [
        (Feature("x"), 1, 1.0),
        (Feature("x"), np.float32(0.5), 0.5),
        (Feature("x", "int8"), 127.0, 127.0),
        (Feature("x", "int8"), np.int64(-128), -128.0),
        (Feature("x", "uint64"), 2**64 - 1, 2.0**64),
        (Feature("x", "bool"), True, 1.0),
        (Feature("x", "bool"), np.False_, 0.0),
        (Feature("x", "bool"), 1, 1.0),
        (Feature("x", "category", AIRLINES), "UA", 1.0),
        (Feature("x", "category", AIRLINES, unseen="other"), "ZZ", 2.0),
        (Feature("x", "category", (7, 3)), 3.0, 1.0),
    ],
)
def test_a_value_that_keeps_the_rules_is_its_number(feature: Feature, value: object, number: float) -> None:
    assert Rule(feature)(value) == number


@pytest.mark.parametrize("value", [None, math.nan, np.float32("nan")])
@pytest.mark.parametrize(
    "feature", [Feature("x"), Feature("x", "int8"), Feature("x", "bool"), Feature("x", "category", AIRLINES)]
)
def test_null_and_nan_are_missing(feature: Feature, value: object) -> None:
    assert math.isnan(Rule(feature)(value))


def test_an_unseen_category_is_missing_unless_told_otherwise() -> None:
    assert math.isnan(Rule(Feature("x", "category", AIRLINES))("ZZ"))


@pytest.mark.parametrize(
    ("feature", "value", "reason"),
    [
        (Feature("x"), "1.5", "expected a number, got a string"),
        (Feature("x"), True, "expected a number, got a boolean"),
        (Feature("x"), [1], "expected a number, got an array"),
        (Feature("x"), {}, "expected a number, got an object"),
        (Feature("x"), 10**400, "a number beyond float64"),
        (Feature("x", required=True), None, "required value missing"),
        (Feature("x", required=True), math.nan, "required value missing"),
        (Feature("x", "int8"), 128, "128 is out of int8 range"),
        (Feature("x", "uint8"), -1, "-1 is out of uint8 range"),
        pytest.param(Feature("x", "int64"), 10**5000, "a huge integer is out of int64 range", id="huge"),
        (Feature("x", "int8"), 2.5, "expected an integer, got 2.5"),
        (Feature("x", "int8"), math.inf, "expected an integer, got inf"),
        (Feature("x", "int8"), True, "expected an integer, got a boolean"),
        (Feature("x", "bool"), 2, "expected true or false, got 2"),
        (Feature("x", "bool"), "true", "expected true or false, got a string"),
        (Feature("x", "category", AIRLINES), 1, "expected a string, got 1"),
        (Feature("x", "category", AIRLINES, unseen="bad"), "ZZ", "unknown category 'ZZ'"),
        (Feature("x", "category", AIRLINES, required=True), "ZZ", "unknown category 'ZZ'"),
        (Feature("x", "category", AIRLINES, unseen="bad"), "Z" * 99, f"unknown category '{'Z' * 60}…'"),
        pytest.param(
            Feature("x", "category", (1,), unseen="bad"),
            10**5000,
            "unknown category 'a huge integer'",
            id="huge category",
        ),
        (Feature("x", "category", (1, 2)), True, "expected an integer, got a boolean"),
        (Feature("x", "category", (1, 2)), "1", "expected an integer, got a string"),
    ],
)
def test_a_value_that_breaks_a_rule_says_how(feature: Feature, value: object, reason: str) -> None:
    with pytest.raises(BadValue) as caught:
        Rule(feature)(value)
    assert str(caught.value) == f"feature 'x': {reason}"
