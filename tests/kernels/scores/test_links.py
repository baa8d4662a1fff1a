import math
from decimal import Context, Decimal, localcontext
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.scores.links import apply_link, link_between
from tests.reference import ulps

ULP = 0.8
"""The error that sigmoid, softmax and exp stay below, in units in the last place."""
PRECISE = Context(prec=60, Emin=-9999, Emax=9999)
margins = st.floats(-800, 800) | st.floats(-40, 40) | st.floats(-1, 1) | st.sampled_from([0.0, -0.0, 5e-324])


def score(name: str, values: NDArray[Any], scale: float = 1.0) -> NDArray[Any]:
    out = np.empty_like(values)
    apply_link(name, scale, values, out)
    return out


def column(*values: float) -> NDArray[np.float64]:
    return np.array(values, np.float64).reshape(-1, 1)


def ulps_apart(left: NDArray[np.generic], right: NDArray[np.generic]) -> int:
    """The largest distance, counted in representable numbers, of two arrays of positive floats."""
    bits = np.int32 if left.dtype == np.float32 else np.int64
    return int(np.abs(left.view(bits) - right.view(bits)).max())


@settings(deadline=None)  # the first call compiles
@given(margins)
def test_a_sigmoid_is_within_its_bound_of_the_exact_value(z: float) -> None:
    with localcontext(PRECISE):
        exact = 1 / (1 + (-Decimal(z)).exp())
        assert ulps(score("sigmoid", column(z))[0, 0], exact) <= ULP


@settings(deadline=None)
@given(st.floats(-745, 709.78) | st.floats(-1, 1))
def test_an_exponential_is_within_its_bound_of_the_exact_value(z: float) -> None:
    with localcontext(PRECISE):
        assert ulps(score("exp", column(z))[0, 0], Decimal(z).exp()) <= ULP


@settings(deadline=None)
@given(st.lists(margins, min_size=1, max_size=9))
def test_a_softmax_is_within_its_bound_of_the_exact_value(row: list[float]) -> None:
    got = score("softmax", np.array([row]))[0]
    with localcontext(PRECISE):
        powers = [Decimal(z).exp() for z in row]
        assert max(ulps(g, power / sum(powers)) for g, power in zip(got, powers, strict=True)) <= ULP


@settings(deadline=None)
@given(st.floats(-103, 88), st.floats(-700, 700))
def test_a_float32_score_is_the_exact_one_rounded_or_its_neighbour(z: float, other: float) -> None:
    row = np.array([[z, other]], np.float32)
    with localcontext(PRECISE):
        power, total = Decimal(float(row[0, 0])).exp(), sum(Decimal(float(v)).exp() for v in row[0])
        sigmoid, softmax = power / (1 + power), power / total
    for name, exact in (("sigmoid", sigmoid), ("softmax", softmax), ("exp", power)):
        got = score(name, row)
        assert got.dtype == np.float32
        assert abs(float(got[0, 0]) - float(exact)) <= 0.5001 * np.spacing(np.float32(float(exact)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sigmoid", "exp", "softmax"])
def test_a_row_has_the_same_bits_in_every_place_of_every_batch(name: str, dtype: type) -> None:
    rows: NDArray[np.generic] = np.random.default_rng(1).normal(0, 20, (67, 3)).astype(dtype)
    alone = np.concatenate([score(name, row.reshape(1, 3)) for row in rows])
    for n in range(68):
        assert score(name, rows[:n].copy()).tobytes() == alone[:n].tobytes()
        assert score(name, rows[n:].copy()).tobytes() == alone[n:].tobytes()


def test_the_ends_of_the_axis_are_exact() -> None:
    ends = column(math.inf, -math.inf, 0.0, 1e308, -1e308)
    assert score("sigmoid", ends).ravel().tolist() == [1.0, 0.0, 0.5, 1.0, 0.0]
    assert score("exp", ends).ravel().tolist() == [math.inf, 0.0, 1.0, math.inf, 0.0]
    assert score("softmax", np.array([[1e308, -1e308], [-math.inf, 3.0]])).tolist() == [[1, 0], [0, 1]]
    assert score("softmax", ends).ravel()[2:].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["identity", "sigmoid", "exp", "softmax"])
def test_a_missing_margin_is_a_missing_score_in_its_row_only(name: str) -> None:
    got = score(name, np.array([[1.0, math.nan], [1.0, 2.0]]))
    assert math.isnan(got[0, 1])
    assert not np.isnan(got[1]).any()


def test_the_largest_and_smallest_exponentials_are_finite_and_subnormal() -> None:
    assert score("exp", column(709.782712893384, -745.1332191019411)).ravel().tolist() == [
        math.exp(709.782712893384),
        5e-324,
    ]


def test_identity_keeps_every_bit() -> None:
    values = column(-0.0, math.inf, 1 / 3)
    assert score("identity", values).tobytes() == values.tobytes()


def test_margins_may_be_overwritten_by_their_scores() -> None:
    for name in ("sigmoid", "softmax", "exp"):
        values = np.random.default_rng(6).normal(0, 9, (67, 3))
        expected = score(name, values)
        apply_link(name, 1.0, values, values)
        assert values.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["identity", "sigmoid", "softmax", "exp"])
@pytest.mark.parametrize(
    "types", [(np.float32, np.float32), (np.float32, np.float64), (np.float64, np.float32)]
)
def test_a_link_between_known_types_gives_the_same_bits(name: str, types: tuple[type, type]) -> None:
    margins = np.random.default_rng(7).normal(0, 9, (67, 3)).astype(types[0])
    expected, out = np.empty((67, 3), types[1]), np.empty((67, 3), types[1])
    apply_link(name, 0.7, margins, expected)
    link_between(name, 0.7, *types)(margins, out)
    assert out.tobytes() == expected.tobytes()


def test_no_rows_are_no_scores() -> None:
    for name in ("identity", "sigmoid", "softmax", "exp"):
        assert score(name, np.empty((0, 2))).shape == (0, 2)


def test_lightgbm_scores_are_two_ulps_away_at_most() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(3000, 5))
    labels = (X[:, 0] + rng.normal(size=3000) > 0).astype(int)
    parameters = {"verbosity": -1, "num_threads": 1, "learning_rate": 0.5}
    binary = {"objective": "binary", "sigmoid": 0.7} | parameters
    booster = lightgbm.train(binary, lightgbm.Dataset(X, labels), num_boost_round=60)
    own = score("sigmoid", booster.predict(X, raw_score=True).reshape(-1, 1), scale=0.7)
    assert ulps_apart(own.ravel(), booster.predict(X)) <= 2

    three = labels + (X[:, 1] > 1)
    multiclass = {"objective": "multiclass", "num_class": 3} | parameters
    booster = lightgbm.train(multiclass, lightgbm.Dataset(X, three), num_boost_round=20)
    np.testing.assert_allclose(
        score("softmax", booster.predict(X, raw_score=True)), booster.predict(X), rtol=2e-15
    )


def test_xgboost_scores_are_two_ulps_of_float32_away_at_most() -> None:
    given_margins = np.random.default_rng(3).uniform(-85, 85, 3000).astype(np.float32)
    data = xgboost.DMatrix(np.zeros((3000, 1)), label=np.arange(3000) % 2, base_margin=given_margins)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1, "eta": 1e-9}, data, 1)
    raw = booster.predict(data, output_margin=True)
    assert ulps_apart(score("sigmoid", raw.reshape(-1, 1)).ravel(), booster.predict(data)) <= 2


def test_xgboost_softmaxes_agree_as_far_as_its_float32_goes() -> None:
    given_margins = np.random.default_rng(5).normal(0, 8, (3000, 4)).astype(np.float32)
    data = xgboost.DMatrix(np.zeros((3000, 1)), label=np.arange(3000) % 4, base_margin=given_margins.ravel())
    booster = xgboost.train(
        {"objective": "multi:softprob", "num_class": 4, "nthread": 1, "eta": 1e-9}, data, 1
    )
    raw = booster.predict(data, output_margin=True)
    np.testing.assert_allclose(score("softmax", raw), booster.predict(data), rtol=1e-5, atol=1e-37)
