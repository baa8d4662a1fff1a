"""One call reads a row of Python objects: what it takes, what it leaves to others, what it leaves behind."""

import sys

import numpy as np
import pytest

from kernels.objects import ROWS_AT_ONCE, Number, row_writers


def number(name: str = "x", place: int = 0, bounds: tuple[int, int] | None = None, **flags: bool) -> Number:
    return Number(
        name, place, bounds, **{"is_bool": False, "is_single": False, "is_required": False, **flags}
    )


def written(numbers: list[Number], row: dict[str, object]) -> list[float] | None:
    """The row as a dict and as a tuple, which must be the same; None where it is not ordinary."""
    X = np.full((2, 1, 1 + max(n.place for n in numbers)), -7.0)
    of_mappings, of_tuples = row_writers(numbers, X.dtype)
    mappings, tuples = [row], [tuple(row.values())]
    ends = of_mappings(id(mappings), 0, X[0]), of_tuples(id(tuples), 0, X[1])
    assert ends[0] == ends[1]
    np.testing.assert_array_equal(X[0], X[1])
    return X[0, 0].tolist() if ends[0] else None


@pytest.mark.parametrize(
    ("bounds", "value", "expected"),
    [
        (None, 0.1, 0.1),
        (None, -0.0, -0.0),
        (None, 2**53 + 1, 2.0**53),
        (None, 10**400, None),
        (None, True, None),
        (None, "1", None),
        (None, np.float64(1), None),
        ((-128, 127), 127, 127.0),
        ((-128, 127), -128.0, -128.0),
        ((-128, 127), 128, None),
        ((-128, 127), -129, None),
        ((-128, 127), 1.5, None),
        ((-128, 127), float("inf"), None),
        ((-(2**63), 2**63 - 1), 2**62, 2.0**62),
        ((-(2**63), 2**63 - 1), 2**63 - 1, None),
        ((-(2**63), 2**63 - 1), -(2**63) - 1, None),
        ((0, 2**64 - 1), 0, 0.0),
        ((0, 2**64 - 1), -1, None),
        ((0, 2**64 - 1), 2**64, None),
    ],
)
def test_ordinary_numbers_are_written_and_others_are_left_to_the_caller(
    bounds: tuple[int, int] | None, value: object, expected: float | None
) -> None:
    assert written([number(bounds=bounds)], {"x": value}) == (None if expected is None else [expected])


def test_a_whole_number_has_no_negative_zero() -> None:
    assert np.signbit(written([number(bounds=(-128, 127))], {"x": -0.0}) or [np.nan]).tolist() == [False]


@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_is_missing_is_nan_unless_it_is_required(value: float | None) -> None:
    assert np.isnan(written([number()], {"x": value}) or [0.0]).all()
    assert np.isnan(written([number(bounds=(0, 1))], {"x": value}) or [0.0]).all()
    assert written([number(is_required=True)], {"x": value}) is None


def test_booleans_are_numbers_only_where_they_are_meant() -> None:
    assert written([number(bounds=(0, 1), is_bool=True)], {"x": True}) == [1.0]
    assert written([number(bounds=(0, 1))], {"x": True}) is None


def test_a_number_of_float32_is_rounded_in_a_wider_block() -> None:
    assert written([number(is_single=True)], {"x": 0.1}) == [float(np.float32(0.1))]
    assert written([number(is_single=True)], {"x": 1e300}) == [float("inf")]


def test_places_of_other_features_are_left_alone() -> None:
    assert written([number("b", 1), number("d", 3)], {"a": "A", "b": 1, "c": "C", "d": 2.5}) == [
        -7,
        1,
        -7,
        2.5,
    ]


def test_a_row_without_a_key_or_too_short_is_not_ordinary() -> None:
    X = np.zeros((1, 2))
    of_mappings, of_tuples = row_writers([number("a", 0), number("b", 1)], X.dtype)
    mappings, tuples = [{"a": 1.0}], [(1.0,)]
    assert of_mappings(id(mappings), 0, X) == 0
    assert of_tuples(id(tuples), 0, X) == 0


def test_a_row_of_another_type_is_not_ordinary() -> None:
    X = np.zeros((1, 1))
    of_mappings, of_tuples = row_writers([number()], X.dtype)
    mappings, tuples = [{"x": 1.0}], [(1.0,)]
    assert of_mappings(id(tuples), 0, X) == 0
    assert of_tuples(id(mappings), 0, X) == 0


def test_rows_are_written_up_to_one_that_is_not_ordinary() -> None:
    X = np.zeros((4, 1))
    of_mappings, _ = row_writers([number()], X.dtype)
    rows = [{"x": 1.0}, {"x": 2}, {"x": "3"}, {"x": None}]
    assert of_mappings(id(rows), 0, X) == 2
    assert of_mappings(id(rows), 3, X) == 4
    np.testing.assert_array_equal(X[[0, 1, 3], 0], [1.0, 2.0, np.nan])


def test_a_call_stops_after_so_many_rows_that_other_threads_have_their_turn() -> None:
    X = np.zeros((ROWS_AT_ONCE + 1, 1))
    of_mappings, _ = row_writers([number()], X.dtype)
    rows = [{"x": 1.0}] * len(X)
    assert of_mappings(id(rows), 0, X) == ROWS_AT_ONCE
    assert of_mappings(id(rows), ROWS_AT_ONCE, X) == len(X)
    assert X.all()


def test_a_list_that_has_become_shorter_is_left_to_the_caller() -> None:
    X = np.zeros((2, 1))
    of_mappings, _ = row_writers([number()], X.dtype)
    rows = [{"x": 1.0}]
    assert of_mappings(id(rows), 0, X) == 1


def test_a_row_lives_while_a_key_compares_itself_and_drops_it() -> None:
    class Dropping(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            rows.clear()
            return str.__eq__(self, other)

    X = np.zeros((1, 2))
    of_mappings, _ = row_writers([number("a", 0), number("b", 1)], X.dtype)
    rows = [{Dropping("a"): 1.5, "b": 2.5}]
    assert of_mappings(id(rows), 0, X) == 1
    assert X.tolist() == [[1.5, 2.5]]


def test_no_reference_is_kept_or_lost() -> None:
    row = {"a": 1.25, "b": None, "c": 3_000_000, "d": "odd"}
    numbers = [number(name, place) for place, name in enumerate(row)]
    X = np.zeros((1, 4))
    write, _ = row_writers(numbers, X.dtype)
    rows = [row]
    watched = [float, int, type(None), str, None, rows, row, *row, *row.values()]
    before = [sys.getrefcount(one) for one in watched]
    for _ in range(1000):
        write(id(rows), 0, X)
    after = [sys.getrefcount(one) for one in watched]
    assert np.abs(np.subtract(after, before)).max() < 100
