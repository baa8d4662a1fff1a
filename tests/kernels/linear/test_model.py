import hashlib
import math
import os
import subprocess
import sys
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, LogisticRegression

from kernels.linear.model import Linear
from kernels.linear.quantiles import HIGHEST, LOWEST, NORMAL, UNIFORM, Quantiles
from kernels.linear.transforms import Transform
from kernels.scores.links import apply_link

numbers = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324])


def margins_of_row(
    coef: NDArray[np.float64], intercept: NDArray[np.float64], row: list[float]
) -> list[float]:
    """The definition, in plain Python: products in order, then the intercept."""
    margins = []
    for weights, start in zip(coef.tolist(), intercept.tolist(), strict=True):
        margin = 0.0
        for weight, x in zip(weights, row, strict=True):
            margin += weight * x
        margins.append(margin + start)
    return margins


def by_rows(model: Linear, X: NDArray[np.generic], n_outputs: int) -> NDArray[np.float64]:
    out = np.empty((len(X), n_outputs))
    model.score_rows(X, out)
    return out


def by_columns(model: Linear, X: NDArray[np.generic], n_outputs: int) -> NDArray[np.float64]:
    out = np.empty((len(X), n_outputs))
    model.score_columns([np.ascontiguousarray(column) for column in X.T], out)
    return out


@settings(deadline=None)  # the first call compiles
@given(st.data())
def test_margins_are_the_sum_in_order_of_the_features_at_both_doors(data: st.DataObject) -> None:
    n, n_features, n_outputs = (data.draw(st.integers(0, most)) for most in (20, 6, 3))
    n_outputs += 1
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    coef = data.draw(hnp.arrays(np.float64, (n_outputs, n_features), elements=st.floats(-9, 9)))
    intercept = data.draw(hnp.arrays(np.float64, n_outputs, elements=st.floats(-9, 9)))
    X = data.draw(hnp.arrays(np.float64, (n, n_features), elements=numbers)).astype(dtype)
    model = Linear(coef, intercept)
    expected = np.array([margins_of_row(coef, intercept, row.tolist()) for row in X]).reshape(n, n_outputs)
    np.testing.assert_array_equal(by_rows(model, X, n_outputs), expected)
    np.testing.assert_array_equal(by_columns(model, X, n_outputs), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_row_has_the_same_bits_at_either_door_and_in_any_batch(dtype: type, n_outputs: int) -> None:
    rng = np.random.default_rng(0)
    model = Linear(rng.normal(size=(n_outputs, 30)), rng.normal(size=n_outputs))
    X: NDArray[np.generic] = rng.normal(size=(2500, 30)).astype(dtype)
    whole = by_rows(model, X, n_outputs)
    assert by_columns(model, X, n_outputs).tobytes() == whole.tobytes()
    for n in (1, 7, 8, 63, 1023, 1025):
        assert by_rows(model, X[:n].copy(), n_outputs).tobytes() == whole[:n].tobytes()
        assert by_columns(model, X[:n], n_outputs).tobytes() == whole[:n].tobytes()


def test_a_missing_feature_makes_its_row_missing_and_no_other() -> None:
    model = Linear(np.ones((1, 2)), np.zeros(1))
    got = by_columns(model, np.array([[1.0, math.nan], [1.0, 2.0]]), 1)
    assert math.isnan(got[0, 0])
    assert got[1, 0] == 3.0


def test_a_model_without_features_answers_its_intercept() -> None:
    model = Linear(np.empty((2, 0)), np.array([1.5, -2.0]))
    assert by_rows(model, np.empty((3, 0)), 2).tolist() == [[1.5, -2.0]] * 3
    assert by_columns(model, np.empty((3, 0)), 2).tolist() == [[1.5, -2.0]] * 3


def test_too_few_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 columns, got 1"):
        by_columns(Linear(np.ones((1, 2)), np.zeros(1)), np.ones((3, 1)), 1)


def test_margins_agree_with_scikit_learn_to_rounding() -> None:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(500, 20))
    target = X @ rng.normal(size=20)
    regression = LinearRegression().fit(X, target)
    own = by_rows(Linear(regression.coef_.reshape(1, -1), np.array([regression.intercept_])), X, 1)
    np.testing.assert_allclose(own[:, 0], regression.predict(X), rtol=1e-12, atol=1e-12)

    three = np.digitize(target, np.quantile(target, [0.3, 0.6]))
    logistic = LogisticRegression().fit(X, three)
    own = by_rows(Linear(logistic.coef_, logistic.intercept_), X, 3)
    np.testing.assert_allclose(own, logistic.decision_function(X), rtol=1e-12, atol=1e-12)


QUANTILES = Quantiles.of_values(np.array([-2.5, 0.0, 0.0, 0.0, 0.5, 3.0, 3.0]), -2.5, 3.0, UNIFORM)
transforms = st.builds(
    Transform,
    impute=st.sampled_from([math.nan, 0.0, -2.5]),
    low=st.sampled_from([-math.inf, -0.5, 0.0]),
    high=st.sampled_from([math.inf, 1.0, 3.0]),
    log1p=st.booleans(),
    shift=st.floats(-3, 3),
    scale=st.floats(0.1, 10),
    curve_shift=st.sampled_from([0.0, 0.5, -4.0]),
    curve_scale=st.sampled_from([1.0, 2.0, -0.5]),
    power=st.sampled_from([math.nan, -1.5, 0.0, 0.3, 1.0, 2.0, 3.5]),
    box_cox=st.sampled_from([math.nan, -1.5, 0.0, 0.3, 2.0]),
    quantiles=st.sampled_from([None, QUANTILES, replace(QUANTILES, kind=NORMAL)]),
)


def transformed(x: float, t: Transform) -> float:
    """What ``Transform`` says, in plain Python."""
    x = t.impute if math.isnan(x) else x
    x = t.low if x < t.low else t.high if x > t.high else x
    bent = t.log1p or t.quantiles or not (math.isnan(t.power) and math.isnan(t.box_cox))
    if bent:
        x = (x - t.curve_shift) * (1 / t.curve_scale)
    if t.log1p:
        x = math.nan if x < -1 else -math.inf if x == -1 else math.log1p(x)
    elif not math.isnan(t.power):
        x = math.copysign(yeo_johnson(abs(x), t.power if x >= 0 else 2 - t.power), x)
    elif not math.isnan(t.box_cox):
        x = box_cox(x, t.box_cox) if x > 0 else math.nan
    elif t.quantiles and not math.isnan(x):
        x = share(x)
        if t.quantiles.kind == NORMAL:
            x = min(max(NormalDist().inv_cdf(min(max(x, 1e-9), 1 - 1e-9)), LOWEST), HIGHEST)
    return (x - t.shift) / t.scale


@settings(deadline=None)
@given(st.lists(transforms, min_size=3, max_size=3), st.lists(numbers, min_size=30, max_size=30))
def test_features_are_imputed_clipped_logged_and_scaled_in_this_order(
    steps: list[Transform], values: list[float]
) -> None:
    X = np.array(values).reshape(10, 3)
    coef, intercept = np.array([[0.5, -1.0, 2.0]]), np.array([0.25])
    made = [[transformed(x, t) for x, t in zip(row, steps, strict=True)] for row in X.tolist()]
    expected = [margins_of_row(coef, intercept, row) for row in made]
    model = Linear(coef, intercept, steps)
    got = by_rows(model, X, 1)
    with np.errstate(invalid="ignore"):  # inf - inf
        room = 1e-9 * (1 + np.abs(made) @ np.abs(coef).T)  # a power may be large, and another take it away
        near = np.abs(got - expected) <= room
    assert (near | (got == expected) | (np.isnan(got) & np.isnan(expected))).all()
    np.testing.assert_array_equal(by_columns(model, X, 1), by_rows(model, X, 1))


def yeo_johnson(x: float, power: float) -> float:
    try:
        return math.log1p(x) if power == 0 else math.expm1(power * math.log1p(x)) / power
    except OverflowError:
        return math.inf


def box_cox(x: float, power: float) -> float:
    try:
        return math.log(x) if power == 0 else math.expm1(power * math.log(x)) / power
    except OverflowError:
        return math.copysign(math.inf, power)


def share(x: float) -> float:
    """The share below a number by ``QUANTILES``: 0 up to -2.5, 1/6 to 1/2 at 0, 2/3 at 0.5, 1 from 3 on."""
    if x <= -2.5 or x >= 3:
        return float(x > 0)
    if x == 0:
        return 1 / 3
    if x < 0:
        return (x + 2.5) / 2.5 / 6
    return 1 / 2 + x / 3 if x <= 0.5 else 2 / 3 + (x - 0.5) / 2.5 / 6


def every_kind_of_step(n_features: int) -> list[Transform]:
    kinds = [
        Transform(),
        Transform(0.5, -1, 1, shift=0.2, scale=3),
        Transform(0.0, 0.0, 9.0, log1p=True, curve_shift=-1.0, curve_scale=3.0),
        Transform(impute=0.5, shift=0.3, curve_scale=2.0, power=0.4),
        Transform(impute=0.5, low=1e-3, shift=0.3, box_cox=0.4),
        Transform(shift=0.5, quantiles=QUANTILES),
        Transform(impute=0.1, shift=0.2, quantiles=replace(QUANTILES, kind=NORMAL)),
    ]
    return [kinds[feature % 7] for feature in range(n_features)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_row_without_its_validity_bit_is_a_missing_value(dtype: type, n_outputs: int) -> None:
    rng = np.random.default_rng(6)
    X: NDArray[np.generic] = rng.normal(size=(1500, 7)).astype(dtype)
    model = Linear(rng.normal(size=(n_outputs, 7)), rng.normal(size=n_outputs), every_kind_of_step(7))
    has_value = rng.random(X.shape) < 0.9
    has_value[:, 5] = True
    bitmaps = []
    for feature, first in enumerate((0, 3, 8, 13, 1, 0, 7)):
        bits = np.concatenate([np.zeros(first, np.bool_), has_value[:, feature]])
        bitmaps.append((np.packbits(bits, bitorder="little"), first) if feature != 5 else None)
    expected = by_rows(model, np.where(has_value, X, np.nan).astype(dtype), n_outputs)
    out = np.empty((len(X), n_outputs))
    model.score_columns([np.ascontiguousarray(column) for column in X.T], out, valid=bitmaps)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["sigmoid", "exp", "softmax", "identity"])
def test_a_link_taken_in_the_same_pass_has_the_same_bits_as_one_taken_later(name: str) -> None:
    rng = np.random.default_rng(7)
    for n_outputs in (1, 3):
        model = Linear(rng.normal(size=(n_outputs, 5)), np.ones(n_outputs), every_kind_of_step(5))
        columns = list(rng.normal(size=(5, 1300)))
        margins, scores = np.empty((1300, n_outputs)), np.empty((1300, n_outputs))
        model.score_columns(columns, margins)
        apply_link(name, 0.7, margins, margins)
        model.score_columns(columns, scores, link=name, scale=0.7)
        assert scores.tobytes() == margins.tobytes()


def digest_of_scores() -> str:
    """A digest of the bits of all links and steps over rows of all sizes."""
    rng = np.random.default_rng(8)
    digest = hashlib.sha256()
    X = (rng.normal(size=(1027, 6)) * 20).astype(np.float32)
    X[::7, 1] = np.nan
    margins = by_columns(Linear(rng.normal(size=(2, 6)), np.ones(2), every_kind_of_step(6)), X, 2)
    for name in ("sigmoid", "softmax", "exp"):
        scores = np.empty_like(margins)
        apply_link(name, 1.0, margins, scores)
        digest.update(np.nan_to_num(scores).tobytes())
    return digest.hexdigest()


@pytest.mark.slow
def test_bits_do_not_depend_on_the_processor_compiled_for() -> None:
    program = "from tests.kernels.linear.test_model import digest_of_scores; print(digest_of_scores())"
    oldest = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **oldest},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == digest_of_scores()
