"""Pipelines drawn at random: forests give their bits, linear models their numbers to rounding."""

import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy.sparse import issparse
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge, TweedieRegressor
from sklearn.pipeline import Pipeline

import engine
from engine import Scorer
from engine.errors import UnsupportedModel
from tests.engine.folding.drawn_pipelines import fitted, table, target, transformers, troubled

pytestmark = pytest.mark.slow
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
"""A pipeline takes seconds to pack, so a failure would take minutes to shrink."""
SLOWLY = settings(max_examples=8, deadline=None, phases=UNSHRUNK, suppress_health_check=list(HealthCheck))
FORESTS = [
    lambda: lightgbm.LGBMRegressor(n_estimators=8, num_leaves=12, verbose=-1, n_jobs=1),
    lambda: xgboost.XGBRegressor(n_estimators=5, max_depth=4, n_jobs=1),
    lambda: RandomForestRegressor(5, max_depth=5, random_state=0),
]


def packed(pipeline: Any) -> Scorer | None:
    """The scorer, or None where the pipeline is refused by name."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Scorer.load(engine.pack(pipeline, name="drawn", out=folder))
        except UnsupportedModel as refusal:
            if any(reason in str(refusal) for reason in REASONS):
                return None
            raise


REASONS = (
    "leaves out is missing",  # XGBoost behind sparse one-hot bins
    "neither rises nor falls",  # XGBoost behind a sparse number, whose 0 is missing
    "takes more than one of log1p, power and quantile transforms",
    "scales before a quantile transform",
    "imputes or clips after a power or quantile transform",
    "imputes a value after clipping",
    "clips after log1p",
    "times larger",
    "refuse even numbers of moderate size",  # log1p, whose NaN below -1 some transformers do not take
    "does not compute what its steps say",  # float32 steps that nearly cancel: more rounding than is let pass
)


def arrow(rows: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(rows, preserve_index=False)


def quietly(function: Any, rows: pd.DataFrame) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(rows)


def scores(scorer: Scorer, table: pa.Table) -> Any:
    return np.column_stack([column.to_numpy() for column in scorer.score(table).columns])


@SLOWLY
@given(transformers(), st.sampled_from(FORESTS), st.integers(1, 2**30))
def test_a_drawn_pipeline_folded_into_a_forest_has_its_bits(transformer: Any, model: Any, seed: int) -> None:
    pipeline = fitted(transformer, model(), target(table(0)))
    if scorer := packed(pipeline):
        rows = troubled(scorer.schema.features, seed)
        got = scorer.score(arrow(rows)).column(0).to_numpy()
        assert (got == quietly(partial(predictions, pipeline), rows)).all()


def predictions(pipeline: Pipeline, rows: pd.DataFrame) -> Any:
    """Its predictions; scikit-learn's forests take missing values, but not from a sparse matrix."""
    made, model = pipeline[:-1].transform(rows), pipeline[-1]
    densely = isinstance(model, RandomForestRegressor) and issparse(made)
    return model.predict(made.toarray() if densely else made)


@SLOWLY
@given(
    transformers(),
    st.sampled_from([Ridge(), TweedieRegressor(power=1.5, max_iter=20), LogisticRegression(max_iter=20)]),
    st.integers(1, 2**30),
)
def test_a_drawn_pipeline_before_a_linear_model_gives_its_numbers_and_the_same_bits_at_every_door(
    transformer: Any, model: Any, seed: int
) -> None:
    y = target(table(0))
    classes = pd.qcut(y, 3, labels=False)
    pipeline = fitted(transformer, model, classes if isinstance(model, LogisticRegression) else np.abs(y))
    if scorer := packed(pipeline):
        rows = troubled(scorer.schema.features, seed)
        ask = getattr(pipeline, "predict_proba", pipeline.predict)
        expected = quietly(ask, rows).reshape(len(rows), -1)
        got = scores(scorer, arrow(rows))
        check_bits_at_every_door(scorer, rows, got)
        made = quietly(pipeline[:-1].transform, rows)
        size = np.abs(made) @ np.abs(np.atleast_2d(pipeline[-1].coef_)).T
        room = 1e-12 * np.maximum(1.0, np.asarray(size).max(axis=1, keepdims=True))
        with np.errstate(invalid="ignore"):  # exp may overflow on both sides
            near = np.abs(got - expected) <= room * np.maximum(1.0, np.abs(expected))
        assert (near | (got == expected)).all()


def check_bits_at_every_door(scorer: Scorer, rows: pd.DataFrame, expected: Any) -> None:
    """JSON rows, tensors, a row alone and Parquet give the scores [n, outputs] of an Arrow table."""
    table = arrow(rows)
    tensors = {name: table[name].to_pylist() for name in scorer.schema.names}
    for X, bad in (scorer.preparer.rows(table.to_pylist()), scorer.preparer.tensors(tensors)):
        assert not bad
        assert scorer.score_rows(X).tobytes() == expected.tobytes()
    assert scorer.score_rows(X[5:6]).tobytes() == expected[5:6].tobytes()
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, Path(folder) / "rows.parquet")
        read = pq.read_table(Path(folder) / "rows.parquet")
    assert scores(scorer, read).tobytes() == expected.tobytes()
