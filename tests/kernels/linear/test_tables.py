import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.linear.model import Linear
from kernels.linear.quantiles import NORMAL, Quantiles
from kernels.linear.tables import Table
from kernels.linear.terms import Terms
from kernels.linear.transforms import Transform


def model(*tables: Table, n_outputs: int = 1, n_features: int = 2) -> Linear:
    """The first feature weighed by 1, beside the tables."""
    coef, intercept = np.ones((n_outputs, 1)), np.arange(1.0, n_outputs + 1)
    return Linear.of_terms(Terms(coef, intercept, [0], [Transform()], tables), n_features)


def both_doors(linear: Linear, X: np.ndarray, n_outputs: int = 1) -> list[list[float]]:
    rows, columns = np.empty((2, len(X), n_outputs))
    linear.score_rows(X, rows)
    linear.score_columns([np.ascontiguousarray(column) for column in X.T], columns)
    assert rows.tobytes() == columns.tobytes()
    return rows.tolist()


def test_a_category_adds_the_weight_of_its_code_and_the_last_one_for_larger_codes() -> None:
    table = Table(1, None, np.array([[10.0], [20.0], [30.0], [99.0]]))
    X = np.array([[0.5, 0], [0.5, 1], [0.5, 2], [0.5, 7], [0.5, math.nan]])
    assert both_doors(model(table), X) == [[11.5], [21.5], [31.5], [31.5], [100.5]]


def test_a_number_adds_the_weight_of_its_interval_closed_on_the_right() -> None:
    table = Table(1, np.array([-1.0, 2.0]), np.array([[10.0], [20.0], [30.0], [99.0]]))
    X = np.array([[0.0, x] for x in (-math.inf, -1.0, -0.99, 2.0, np.nextafter(2, 3), math.inf, math.nan)])
    expected = [11.0, 11.0, 21.0, 21.0, 31.0, 31.0, 100.0]
    assert both_doors(model(table), X) == [[value] for value in expected]


def test_a_feature_may_be_weighed_and_looked_up_and_every_output_has_its_own_weight() -> None:
    table = Table(0, np.array([0.0]), np.array([[1.0, -1.0], [2.0, -2.0], [0.0, 0.0]]))
    assert both_doors(model(table, n_outputs=2, n_features=1), np.array([[-3.0], [3.0]]), 2) == [
        [-1.0, -2.0],
        [6.0, 3.0],
    ]


@settings(deadline=None)
@given(
    st.integers(0, 2**30), st.integers(1, 2500), st.integers(1, 3), st.sampled_from([np.float32, np.float64])
)
def test_rows_and_columns_have_the_same_bits(seed: int, n_rows: int, n_outputs: int, dtype: type) -> None:
    random = np.random.default_rng(seed)
    edges = np.unique(random.normal(size=random.integers(0, 9)))
    linear = model(
        Table(1, edges, random.normal(size=(len(edges) + 2, n_outputs))),
        Table(2, None, random.normal(size=(5, n_outputs))),
        n_outputs=n_outputs,
        n_features=3,
    )
    X = random.normal(size=(n_rows, 3)).astype(dtype)
    X[:, 2] = random.integers(0, 6, n_rows)
    X[random.random(X.shape) < 0.1] = np.nan
    both_doors(linear, X, n_outputs)


def test_a_column_with_a_bitmap_is_looked_up_as_missing_where_it_has_no_value() -> None:
    table = Table(1, None, np.array([[10.0], [20.0], [99.0]]))
    out = np.empty((3, 1))
    bitmap = (np.array([0b101], np.uint8), 0)
    model(table).score_columns([np.zeros(3), np.array([0.0, 1.0, 1.0])], out, valid=[None, bitmap])
    assert out[:, 0].tolist() == [11.0, 100.0, 21.0]


def sound() -> Terms:
    table = Table(1, np.array([0.0, 1.0]), np.ones((4, 1)))
    return Terms(np.ones((1, 1)), np.zeros(1), [0], [Transform()], [table, Table(1, None, np.ones((2, 1)))])


def test_terms_come_back_from_their_arrays() -> None:
    arrays = sound().arrays()
    again = Terms.of_arrays(arrays)
    for name, array in again.arrays().items():
        np.testing.assert_array_equal(array, arrays[name])
    assert again.fault(2) is None


def test_curves_come_back_and_what_no_term_has_is_no_array() -> None:
    scaled = replace(sound(), transforms=[Transform(power=0.5, curve_shift=2.0)])
    (again,) = Terms.of_arrays(scaled.arrays()).transforms
    assert (again.power, again.curve_shift, again.curve_scale) == (0.5, 2.0, 1.0)
    assert scaled.arrays().keys() - sound().arrays().keys() == {"term_curve_shift", "term_power"}


def of_quantiles() -> Terms:
    quantiles = Quantiles.of_values(np.array([-1.0, 2.0, 2.0, 5.0]), -1.0, 5.0, NORMAL)
    coef, transforms = np.ones((1, 3)), [Transform(quantiles=quantiles), Transform(), Transform(box_cox=0.5)]
    return replace(sound(), coef=coef, sources=[0, 1, 1], transforms=transforms)


def test_quantiles_come_back_with_one_knot_for_equal_ones() -> None:
    first, second, third = Terms.of_arrays(of_quantiles().arrays()).transforms
    assert first.quantiles is not None
    assert first.quantiles.knots.tolist() == [[-1.0, 2.0, 5.0], [0.0, 1 / 3, 1.0], [0.0, 2 / 3, 1.0]]
    assert (first.quantiles.low_end, first.quantiles.high_end, first.quantiles.kind) == (-1.0, 5.0, NORMAL)
    assert second.quantiles is third.quantiles is None
    assert third.box_cox == 0.5


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("knots", np.zeros((3, 2))),
        ("term_ends", np.zeros((3, 3))),
        ("term_score", np.zeros(3)),
        ("term_n_knots", np.array([3, 1, -1])),
    ],
)
def test_quantiles_that_do_not_fit_together_are_refused(name: str, wrong: np.ndarray) -> None:
    arrays = of_quantiles().arrays()
    with pytest.raises(ValueError, match="quantiles of its terms do not fit"):
        Terms.of_arrays({**arrays, name: wrong})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"term_curve_scale": np.zeros(1)}, "divided by 0"),
        ({"table_edges": np.array([1.0, 1.0])}, "do not ascend"),
        ({"term_source": np.array([5])}, "feature 5"),
        ({"term_scale": np.zeros(1)}, "divided by 0"),
        ({"table_source": np.array([1, -1])}, "-1 of 2"),
        (of_quantiles().arrays() | {"knots": np.zeros((3, 3))}, "quantiles do not ascend"),
    ],
)
def test_terms_that_the_kernel_cannot_run_on_are_found(change: dict[str, np.ndarray], sentence: str) -> None:
    assert sentence in str(Terms.of_arrays({**sound().arrays(), **change}).fault(2))


@pytest.mark.parametrize("name", sorted(sound().arrays()))
def test_arrays_of_another_shape_or_missing_are_refused(name: str) -> None:
    arrays = sound().arrays()
    with pytest.raises(KeyError):
        Terms.of_arrays({key: value for key, value in arrays.items() if key != name})
    with pytest.raises((ValueError, TypeError, IndexError)):
        Terms.of_arrays({**arrays, name: np.zeros((3, 3, 3))})
    with pytest.raises(ValueError, match="'term_curve_shift' is"):
        Terms.of_arrays({**arrays, "term_curve_shift": np.zeros(7)})
