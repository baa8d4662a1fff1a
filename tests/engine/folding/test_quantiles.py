"""Scores by quantiles are those of scikit-learn's ``QuantileTransformer``, whose code is the oracle."""

import warnings
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import QuantileTransformer

from engine.folding.quantiles import NEAR, QuantileTransform, quantiles_of
from engine.folding.steps import Step, chained
from kernels.linear.quantiles import HIGHEST, LOWEST, scores_of


def numbers(dtype: str) -> st.SearchStrategy[float]:
    """Whole ones, so that some come several times, ordinary ones, and extremes."""
    width = 32 if dtype == "float32" else 64
    most = 3e38 if dtype == "float32" else 8e307
    return st.one_of(
        st.integers(-3, 3).map(float),
        st.floats(-10, 10, width=width, allow_subnormal=False),
        st.sampled_from([0.0, -0.0, 1e-30, 1e9, most, -most]).map(lambda x: float(np.dtype(dtype).type(x))),
    )


def beside(places: Any) -> Any:
    """Numbers [n], those next to them, and where normal scores end."""
    towards = [np.nextafter(places, np.array(end, places.dtype)) for end in (-np.inf, np.inf)]
    ends = [places + np.array(sign * NEAR, places.dtype) for sign in (-1, 1)]
    around = np.concatenate([places, *towards, *ends])
    return np.concatenate([around, *(np.nextafter(around, np.array(e, places.dtype)) for e in (-9e9, 9e9))])


def fitted(column: Any, n_quantiles: int, normal: bool) -> QuantileTransformer:
    distribution = "normal" if normal else "uniform"
    transformer = QuantileTransformer(n_quantiles=n_quantiles, output_distribution=distribution)
    return quietly(transformer.fit, column)


def quietly(function: Any, column: Any) -> Any:
    """What scikit-learn makes of a column [n], without its warnings of few rows and of sums that overflow."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(column[:, None])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("normal", [False, True], ids=["uniform", "normal"])
@settings(deadline=None, max_examples=150)
@given(data=st.data(), n_quantiles=st.sampled_from([1, 2, 3, 7, 1000]))
def test_scores_are_scikit_learns_at_beside_and_between_the_quantiles(
    data: st.DataObject, n_quantiles: int, normal: bool, dtype: str
) -> None:
    column = data.draw(hnp.arrays(dtype, st.integers(1, 30), elements=numbers(dtype)))
    transformer = fitted(column, n_quantiles, normal)
    values = transformer.quantiles_[:, 0]
    assume(np.isfinite(values).all())  # scikit-learn's own overflow between the ends of float32 is refused
    asked = data.draw(hnp.arrays(dtype, 20, elements=numbers(dtype)))
    x = np.concatenate([beside(values.astype(dtype)), beside(column), asked, np.array([np.nan], dtype)])
    x = x[~np.isinf(x)]
    step = QuantileTransform(tuple(values.tolist()), normal)
    got = scores_of(x.astype(np.float64), quantiles_of(step, np.dtype(dtype).type))
    expected = quietly(transformer.transform, x)[:, 0]
    if dtype == "float32":
        np.testing.assert_allclose(got, expected, rtol=2**-23, atol=1e-45)
    elif normal:
        np.testing.assert_allclose(got, expected, rtol=2e-15, atol=1e-300)
    else:
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("normal", "lowest", "highest"), [(False, 0.0, 1.0), (True, LOWEST, HIGHEST)])
def test_infinities_score_as_what_lies_beyond_the_quantiles(
    normal: bool, lowest: float, highest: float
) -> None:
    step = Step(quantiles=QuantileTransform((1.0, 2.0, 2.0, 5.0), normal))
    assert chained(np.array([-np.inf, np.inf]), [step]).tolist() == [lowest, highest]


def test_a_share_that_rounding_makes_negative_has_no_normal_score() -> None:
    column = np.array([-8e307, 0.0, 0.0, 0.0, 0.0])
    transformer = fitted(column, 5, normal=True)
    x = np.nextafter(column[:1], 0.0)
    assert np.isnan(quietly(transformer.transform, x)).all()
    step = QuantileTransform(tuple(transformer.quantiles_[:, 0].tolist()), normal=True)
    assert np.isnan(scores_of(x, quantiles_of(step))).all()


@pytest.mark.parametrize("values", ["[]", "[2, 1]", "[1, null]", "[-1.7e308, 1.7e308]"])
def test_quantiles_that_are_none_are_refused(values: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(f'{{"quantiles": {{"values": {values}}}}}', type=Step)
