"""What a request's rows, matrices and tensors may hold, beyond what a table can."""

import math
from collections import ChainMap, OrderedDict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.errors import InvalidRequest
from engine.prepare.preparer import FEW_ROWS, Preparer
from engine.schema import Feature, Schema
from kernels.objects import ROWS_AT_ONCE

FLIGHT = Schema(
    (
        Feature("distance", "float32"),
        Feature("hour", "int8"),
        Feature("carrier", "category", ("AA", "UA")),
        Feature("holiday", "bool"),
    )
)


def flight(**changes: object) -> dict[str, object]:
    return {"distance": 0.1, "hour": 7, "carrier": "UA", "holiday": False, **changes}


def only_reason(rows: list[Any], schema: Schema = FLIGHT) -> str:
    _, bad = Preparer(schema).rows(rows)
    assert list(bad) == [0]
    return bad[0]


def test_a_row_is_rounded_to_its_features_types() -> None:
    X, bad = Preparer(FLIGHT).rows([flight()])
    assert X.tolist() == [[float(np.float32(0.1)), 7.0, 1.0, 0.0]]
    assert not bad


def test_a_bad_row_does_not_disturb_its_neighbours() -> None:
    X, bad = Preparer(FLIGHT).rows([flight(), flight(hour=300), flight(hour=8)])
    assert bad == {1: "feature 'hour': 300 is out of int8 range"}
    assert X[[0, 2], 1].tolist() == [7.0, 8.0]


@pytest.mark.parametrize("at", [0, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 2 * ROWS_AT_ONCE - 1])
def test_a_bad_row_is_found_wherever_it_is_among_many(at: int) -> None:
    rows = [flight(hour=row % 24) for row in range(2 * ROWS_AT_ONCE)]
    rows[at] = flight(hour="7")
    X, bad = Preparer(FLIGHT).rows(rows)
    assert bad == {at: "feature 'hour': expected an integer, got a string"}
    hours = [float(row % 24) for row in range(2 * ROWS_AT_ONCE) if row != at]
    assert np.delete(X, at, axis=0)[:, 1:].tolist() == [[hour, 1.0, 0.0] for hour in hours]


def test_a_bad_category_does_not_disturb_its_neighbours() -> None:
    X, bad = Preparer(FLIGHT).rows([flight(), flight(carrier=1), flight(carrier="AA")])
    assert bad == {1: "feature 'carrier': expected a string, got 1"}
    assert X[[0, 2], 2].tolist() == [1.0, 0.0]


def test_rows_are_taken_from_any_sequence() -> None:
    X, bad = Preparer(FLIGHT).rows((flight(), flight(hour=8)))
    assert X[:, 1].tolist() == [7.0, 8.0]
    assert not bad


def test_an_absent_key_is_an_error_that_says_what_to_send() -> None:
    row = flight()
    del row["hour"]
    assert only_reason([row]) == "feature 'hour' is missing; send null for a missing value"


def test_an_absent_category_is_an_error_as_well() -> None:
    row = flight()
    del row["carrier"]
    assert only_reason([row]) == "feature 'carrier' is missing; send null for a missing value"


def test_any_mapping_is_a_row() -> None:
    X, bad = Preparer(FLIGHT).rows([flight(), ChainMap({"hour": 8}, flight()), OrderedDict(flight())])
    assert X[:, 1].tolist() == [7.0, 8.0, 7.0]
    assert not bad


def test_the_first_feature_in_order_gives_the_reason() -> None:
    assert (
        only_reason([flight(holiday="no", hour="7")]) == "feature 'hour': expected an integer, got a string"
    )


def test_extra_keys_are_ignored() -> None:
    X, bad = Preparer(FLIGHT).rows([flight(tailnum="N1")])
    assert X.shape == (1, 4)
    assert not bad


@pytest.mark.parametrize(
    ("row", "what"), [([1, 2], "an array"), ("UA", "a string"), (None, "null"), (3, "3")]
)
def test_a_row_that_is_no_object_is_bad(row: object, what: str) -> None:
    assert only_reason([row]) == f"expected an object with the features as keys, got {what}"


@pytest.mark.parametrize("value", [[1], {"a": 1}, True, 1.0])
def test_a_category_of_another_kind_is_refused(value: object) -> None:
    assert "feature 'carrier': expected a string, got" in only_reason([flight(carrier=value)])


@pytest.mark.parametrize(
    ("value", "what"),
    [(True, "a boolean"), (np.True_, "a boolean"), (Decimal(1), "a Decimal"), (1 + 0j, "a complex")],
)
def test_what_only_equals_an_integer_category_is_none(value: object, what: str) -> None:
    schema = Schema((Feature("month", "category", (1, 2)),))
    assert only_reason([{"month": value}], schema) == f"feature 'month': expected an integer, got {what}"


def test_true_is_no_number_even_beside_booleans() -> None:
    assert only_reason([flight(distance=True)]) == "feature 'distance': expected a number, got a boolean"


def test_a_number_too_large_for_float32_becomes_infinite_as_in_a_table() -> None:
    X, bad = Preparer(FLIGHT).rows([flight(distance=1e300), flight(distance=-1e300)])
    assert X[:, 0].tolist() == [math.inf, -math.inf]
    assert not bad


def test_an_integer_beyond_float64_is_bad() -> None:
    assert only_reason([flight(distance=10**400)]) == "feature 'distance': a number beyond float64"


def test_numpy_scalars_are_numbers() -> None:
    X, bad = Preparer(FLIGHT).rows([flight(distance=np.float32(0.1), hour=np.int64(7), holiday=np.True_)])
    assert X.tolist() == [[float(np.float32(0.1)), 7.0, 1.0, 1.0]]
    assert not bad


def test_no_rows_are_an_empty_block() -> None:
    X, bad = Preparer(FLIGHT).rows([])
    assert X.shape == (0, 4)
    assert not bad


def test_a_schema_with_one_feature_of_each_kind_alone() -> None:
    for feature in FLIGHT.features:
        row = {feature.name: flight()[feature.name]}
        X, bad = Preparer(Schema((feature,))).rows([row, row])
        assert X.shape == (2, 1)
        assert not bad


@pytest.mark.parametrize(
    "change",
    [
        {"distance": "0.1"},
        {"distance": True},
        {"hour": "7"},
        {"hour": True},
        {"carrier": 1},
        {"holiday": "no"},
    ],
)
def test_decoding_typed_rows_refuses_wrong_types(change: Mapping[str, object]) -> None:
    row_type = Preparer(FLIGHT).row_type
    with pytest.raises(msgspec.ValidationError, match=r"Expected .*, got .*- at `\$\."):
        msgspec.json.decode(msgspec.json.encode(flight(**change)), type=row_type)


def test_decoding_typed_rows_refuses_an_absent_key() -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field `distance`"):
        msgspec.json.decode(b"{}", type=Preparer(FLIGHT).row_type)


def test_typed_rows_are_checked_for_range_and_category() -> None:
    schema = Schema((Feature("hour", "int8"), Feature("carrier", "category", ("AA",), unseen="bad")))
    preparer = Preparer(schema)
    text = (
        b'[{"hour": 300, "carrier": "AA"}, {"hour": 3, "carrier": "ZZ"},'
        b' {"hour": 3.0, "carrier": null, "extra": 1}]'
    )
    X, bad = preparer.typed_rows(msgspec.json.decode(text, type=list[preparer.row_type]))
    assert bad == {
        0: "feature 'hour': 300 is out of int8 range",
        1: "feature 'carrier': unknown category 'ZZ'",
    }
    assert X[2, 0] == 3.0
    assert math.isnan(X[2, 1])


def test_feature_names_may_be_anything() -> None:
    schema = Schema(tuple(Feature(name) for name in ("Column 0", "class", "f1", "ä-ö", "__init__")))
    preparer = Preparer(schema)
    row = {name: float(place) for place, name in enumerate(schema.names)}
    typed = msgspec.json.decode(msgspec.json.encode([row]), type=list[preparer.row_type])
    assert preparer.typed_rows(typed)[0].tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0]]


NUMBERS = Schema((Feature("a", "float32"), Feature("b", "float32")), "float32")


def test_a_matrix_of_the_blocks_type_is_taken_as_it_is() -> None:
    values = np.array([[1, 2], [3, np.nan]], np.float32)
    X, bad = Preparer(NUMBERS).matrix(values)
    assert np.shares_memory(X, values)
    assert not bad


def test_a_matrix_by_columns_becomes_rows() -> None:
    values = np.asfortranarray([[1, 2], [3, 4]], np.float32)
    X, _ = Preparer(NUMBERS).matrix(values)
    assert X.flags.c_contiguous
    assert X.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("n_rows", [1, FEW_ROWS, FEW_ROWS + 1])
def test_a_matrix_row_out_of_range_is_bad(n_rows: int) -> None:
    values = np.zeros((n_rows, 1))
    values[-1] = 128
    _, bad = Preparer(Schema((Feature("hour", "int8"),))).matrix(values)
    assert bad == {n_rows - 1: "feature 'hour': 128 is out of int8 range"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 3)), r"expected a matrix of shape \[rows, 2\], got \[3, 3\]"),
        (np.zeros(2), r"expected a matrix of shape \[rows, 2\], got \[2\]"),
        (np.zeros((1, 2), bool), "expected a matrix of numbers, got bool"),
        (np.array([["a", "b"]]), "expected a matrix of numbers, got <U1"),
        (np.array([[1, None]]), "expected a matrix of numbers, got object"),
    ],
)
def test_a_matrix_of_another_shape_or_type_is_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Preparer(NUMBERS).matrix(values)


def test_a_matrix_is_refused_where_categories_are_strings() -> None:
    with pytest.raises(InvalidRequest, match="the categories of feature 'carrier' are strings"):
        Preparer(FLIGHT).matrix(np.zeros((1, 4)))


def flight_tensors(n_rows: int, **changes: Any) -> dict[str, Any]:
    return {
        "distance": np.full(n_rows, 0.1, np.float32),
        "hour": np.full(n_rows, 7, np.int8),
        "carrier": np.array(["UA"] * n_rows, object),
        "holiday": np.zeros(n_rows, bool),
        **changes,
    }


@pytest.mark.parametrize("n_rows", [0, 1, FEW_ROWS + 1])
def test_tensors_of_arrays_are_a_block(n_rows: int) -> None:
    X, bad = Preparer(FLIGHT).tensors(flight_tensors(n_rows))
    assert X.tolist() == [[float(np.float32(0.1)), 7.0, 1.0, 0.0]] * n_rows
    assert X.shape == (n_rows, 4)
    assert not bad


@pytest.mark.parametrize("n_rows", [1, FEW_ROWS + 1])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hour": np.zeros(5, np.int8)}, "tensor 'hour': expected . rows|tensor 'hour': expected .. rows"),
        ({"hour": np.zeros((1, 1))}, r"tensor 'hour': expected one value per row, got shape \[1, 1\]"),
        ({"hour": np.array(["7"])}, "tensor 'hour': expected integers in the range of int8, got <U1"),
        ({"carrier": np.zeros(1)}, r"tensor 'carrier': expected strings \(a category\), got float64"),
        ({"distance": np.zeros(1, bool)}, r"tensor 'distance': expected numbers \(float32\), got bool"),
        ({"distance": None}, r"expected a tensor 'distance' of numbers \(float32\), got none"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(n_rows: int, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Preparer(FLIGHT).tensors(flight_tensors(n_rows, **change))


def test_a_value_of_another_kind_in_a_list_makes_its_row_bad() -> None:
    tensors = flight_tensors(2, distance=[1.5, "2.5"], carrier=["UA", None])
    _, bad = Preparer(FLIGHT).tensors(tensors)
    assert bad == {1: "feature 'distance': expected a number, got a string"}
