"""Power and quantile transforms over columns that look for trouble, before linear models and a network."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    StandardScaler,
)

import engine
from engine import Scorer
from engine.errors import UnsupportedModel

pytestmark = pytest.mark.slow
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
SLOWLY = settings(max_examples=25, deadline=None, phases=UNSHRUNK, suppress_health_check=list(HealthCheck))
MODELS = [
    LinearRegression(),
    Ridge(),
    LogisticRegression(max_iter=20),
    MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0),
]
N_ROWS = 200
COLUMNS = {
    "normal": lambda random: random.normal(size=N_ROWS),
    "wide": lambda random: random.lognormal(0, 3, N_ROWS),
    "whole": lambda random: random.integers(-3, 4, N_ROWS).astype(float),
    "constant": lambda random: np.full(N_ROWS, 1.5),
    "mostly 0": lambda random: np.where(random.random(N_ROWS) < 0.6, 0.0, random.exponential(size=N_ROWS)),
    "huge": lambda random: random.normal(size=N_ROWS) * 1e12,
    "tiny": lambda random: random.normal(size=N_ROWS) * 1e-9,
}
POSITIVE = ("wide",)
after = st.sampled_from([[], [StandardScaler()], [MinMaxScaler((-3, 0.5))], [MaxAbsScaler()]])
quantiles = st.builds(
    QuantileTransformer,
    n_quantiles=st.sampled_from([1, 2, 30, 1000]),
    output_distribution=st.sampled_from(["uniform", "normal"]),
)
powers = st.builds(PowerTransformer, method=st.just("box-cox"), standardize=st.booleans())
before_quantiles = st.sampled_from([[], [], [FunctionTransformer(np.negative)]])
before_powers = st.sampled_from([[], [MaxAbsScaler()], [MinMaxScaler((1, 2))]])


@st.composite
def chains(draw: st.DrawFn, *, powered: bool, imputed: bool) -> Any:
    """An imputer or none, then either curve, with scales where they may be."""
    chain = [SimpleImputer(strategy="median")] if imputed else []
    if powered:
        chain += [*draw(before_powers), draw(powers)]
    else:
        chain += [*draw(before_quantiles), draw(quantiles)]
    return make_pipeline(*chain, *draw(after))


def quietly(function: Any, *given: Any) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(*given)


def troubled(column: pd.Series, quantile: Any, random: np.random.Generator, *, imputed: bool) -> Any:
    """Numbers that were seen and those beside them, quantiles, extremes and, if imputed, missing ones."""
    dtype = column.to_numpy().dtype
    seen = random.choice(column.dropna().to_numpy(), 150)
    if quantile is None:
        asked = np.concatenate([seen, seen * dtype.type(1.5), seen / 2])
    else:
        places = np.concatenate(
            [seen, random.choice(quantile, 150).astype(dtype), quantile[[0, -1]].astype(dtype)]
        )
        places = np.concatenate([places, places + dtype.type(1e-7), places - dtype.type(1e-7)])
        sides = [np.nextafter(places, dtype.type(end)) for end in (-np.inf, np.inf)]
        extremes = [0.0, -0.0, 1e-30, 1e9, -1e9, 3e37, -3e37]
        asked = np.concatenate([places, *sides, np.array(extremes, dtype)])
    asked = random.choice(asked, 500)
    return np.where(random.random(500) < 0.1, np.nan, asked).astype(dtype) if imputed else asked


@SLOWLY
@given(st.data(), st.integers(0, 2**30), st.sampled_from(["float32", "float64", "both"]))
def test_drawn_curves_give_the_pipelines_numbers_and_the_same_bits_at_both_doors(
    data: st.DataObject, seed: int, dtypes: str
) -> None:
    random = np.random.default_rng(seed)
    rows, parts, imputed = {}, [], {}
    for name in ("a", "b"):
        powered, imputed[name] = data.draw(st.booleans()), data.draw(st.booleans())
        kind = data.draw(st.sampled_from(POSITIVE if powered else list(COLUMNS)))
        dtype = dtypes if dtypes != "both" else {"a": "float32", "b": "float64"}[name]
        column = COLUMNS[kind](random).astype(dtype)
        rows[name] = (
            np.where(random.random(N_ROWS) < 0.1, np.nan, column).astype(dtype) if imputed[name] else column
        )
        parts.append((name, data.draw(chains(powered=powered, imputed=imputed[name])), [name]))
    table, y = pd.DataFrame(rows), random.normal(size=N_ROWS)
    model = data.draw(st.sampled_from(MODELS))
    pipeline = Pipeline([("prepare", ColumnTransformer(parts)), ("model", model)])
    quietly(pipeline.fit, table, y > 0 if isinstance(model, LogisticRegression) else y)
    asked = pd.DataFrame(
        {
            name: troubled(table[name], _quantiles(part), random, imputed=imputed[name])
            for name, part, _ in pipeline[0].transformers_
        }
    )
    try:
        scorer = packed(pipeline, table)
    except UnsupportedModel as refusal:  # float32 powers that overflow between two steps
        known = ("does not compute what its steps say", "the transforms refuse ordinary numbers")
        if dtypes == "float64" or not any(reason in str(refusal) for reason in known):
            raise
        return
    ask = getattr(pipeline, "predict_proba", pipeline.predict)
    expected = quietly(ask, asked).reshape(len(asked), -1)[:, -1]
    asked_table = pa.Table.from_pandas(asked, preserve_index=False)
    got = scorer.score(asked_table).column(0).to_numpy()
    X, bad = scorer.preparer.rows(asked_table.to_pylist())
    assert not bad
    assert scorer.score_rows(X)[:, 0].tobytes() == got.tobytes()
    assert scorer.score_rows(X[7:8]).tobytes() == got[7:8].tobytes()
    close = 1e-12 if dtypes == "float64" else 2.0**-17
    np.testing.assert_allclose(got, expected, rtol=close, atol=close * size(pipeline, asked))


def _quantiles(part: Any) -> Any:
    """The quantiles of a chain over one column, as numbers that it is given; None without."""
    found = [step for _, step in part.steps if isinstance(step, QuantileTransformer)]
    negated = any(isinstance(step, FunctionTransformer) for _, step in part.steps)
    return found[0].quantiles_[:, 0] * (-1 if negated else 1) if found else None


def size(pipeline: Pipeline, asked: pd.DataFrame) -> float:
    """How large the numbers are that a score is the sum of."""
    made, model = np.abs(quietly(pipeline[0].transform, asked)), pipeline[-1]
    first = model.coefs_[0] if isinstance(model, MLPRegressor) else np.atleast_2d(model.coef_).T
    rest = np.abs(model.coefs_[1]).sum() if isinstance(model, MLPRegressor) else 1.0
    return float(max(1.0, (made @ np.abs(first)).max() * rest))


def packed(pipeline: Pipeline, table: pd.DataFrame) -> Scorer:
    with tempfile.TemporaryDirectory() as folder:
        table.to_parquet(Path(folder) / "sample.parquet")
        out = Path(folder) / "bundles"
        return Scorer.load(
            engine.pack(pipeline, name="drawn", out=out, sample=Path(folder) / "sample.parquet")
        )
