"""Pipelines drawn at random over one kind of table, and rows that look for trouble in them."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from engine.schema import Feature

NUMBERS, WORDS, CODES = ("amount", "balance", "age"), ("carrier", "origin"), ("zone",)
N_ROWS = 400


def table(seed: int, n_rows: int = N_ROWS) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "amount": random.lognormal(3, 2, n_rows),
            "balance": random.normal(size=n_rows) * 1000,
            "age": random.integers(18, 90, n_rows).astype(float),
            "carrier": random.choice(["AA", "DL", "UA"], n_rows, p=[0.6, 0.37, 0.03]).astype(object),
            "origin": random.choice(["EWR", "JFK", "LGA", "TEB"], n_rows).astype(object),
            "zone": random.integers(0, 12, n_rows),
        }
    )
    rows.loc[random.random(n_rows) < 0.1, "age"] = np.nan
    rows.loc[::17, "balance"] = 0.0
    return rows


def target(rows: pd.DataFrame) -> Any:
    late = 2 * (rows.carrier == "UA") + (rows.zone % 3) + np.nan_to_num(rows.age) / 50
    noise = np.random.default_rng(1).normal(size=len(rows))
    return np.log1p(rows.amount) + rows.balance / 500 + late + noise


strategies = st.sampled_from(["mean", "median", "most_frequent", "constant"])
imputers = st.builds(SimpleImputer, strategy=strategies, add_indicator=st.booleans())
flags = st.booleans()
bins = st.builds(
    KBinsDiscretizer,
    n_bins=st.integers(2, 7),
    encode=st.sampled_from(["ordinal", "onehot", "onehot-dense"]),
    strategy=st.sampled_from(["uniform", "quantile"]),
    quantile_method=st.just("averaged_inverted_cdf"),
)
scalers = st.one_of(
    st.builds(StandardScaler, with_mean=flags, with_std=flags),
    st.builds(MinMaxScaler, feature_range=st.sampled_from([(0, 1), (-3, 0.5)]), clip=flags),
    st.builds(RobustScaler, with_centering=flags, with_scaling=flags),
    st.builds(MaxAbsScaler),
    st.builds(
        lambda low: FunctionTransformer(np.clip, kw_args={"a_min": low, "a_max": 50.0}), st.floats(-9, 9)
    ),
    st.builds(FunctionTransformer, st.just(np.negative)),
)
positive = FunctionTransformer(np.clip, kw_args={"a_min": 0.5, "a_max": 1e4})
powers = st.builds(PowerTransformer, standardize=flags).map(lambda power: [power])
positive_powers = st.builds(PowerTransformer, standardize=flags, method=st.just("box-cox"))
quantiles = st.builds(
    QuantileTransformer,
    n_quantiles=st.sampled_from([2, 30, 400]),
    output_distribution=st.sampled_from(["uniform", "normal"]),
)
curves = st.one_of(powers, quantiles.map(lambda each: [each]))
curves_of_raw = st.one_of(curves, positive_powers.map(lambda power: [positive, power]))
"""After scales, clipped numbers may all be one, which Box and Cox's transform is not fitted to."""
above_minus_1 = FunctionTransformer(np.clip, kw_args={"a_min": -0.9, "a_max": 1e4})
logs = st.sampled_from([[], [above_minus_1, FunctionTransformer(np.log1p)]])
encoders = st.one_of(
    st.builds(
        OneHotEncoder,
        handle_unknown=st.sampled_from(["error", "ignore", "infrequent_if_exist"]),
        drop=st.sampled_from([None, "first", "if_binary"]),
        min_frequency=st.sampled_from([None, 0.1]),
        sparse_output=flags,
    ),
    st.just(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)),
    st.just(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, min_frequency=0.1)),
    st.builds(
        TargetEncoder, random_state=st.just(0), target_type=st.just("continuous"), shuffle=st.just(True)
    ),
)


@st.composite
def transformers(draw: st.DrawFn) -> ColumnTransformer:
    """A part per feature."""
    parts: list[tuple[str, Any, list[str]]] = []
    for name in NUMBERS:
        chain: list[Any] = [draw(imputers)] if name == "age" or draw(flags) else []
        chain += draw(st.lists(scalers, max_size=2))
        if name == "amount":
            chain += draw(logs)
            chain += draw(st.lists(scalers, max_size=2))
        last = draw(st.sampled_from(["none", "bins", "binarizer", "curve"]))
        simple = not any(getattr(step, "add_indicator", False) for step in chain)
        if last == "bins" and simple:
            chain.append(draw(bins))
        if last == "binarizer":
            chain.append(Binarizer(threshold=draw(st.floats(-1, 1))))
        if last == "curve" and simple:
            raw = all(isinstance(step, SimpleImputer) for step in chain)
            chain += draw(curves_of_raw if raw else curves)
        parts.append((name, make_pipeline(*chain) if chain else "passthrough", [name]))
    parts += [(name, draw(encoders), [name]) for name in (*WORDS, *CODES)]
    sparse_threshold = draw(st.sampled_from([0, 0.3, 1.0]))
    return ColumnTransformer(draw(st.permutations(parts)), sparse_threshold=sparse_threshold)


def fitted(transformer: Any, model: Any, y: Any) -> Pipeline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Pipeline([("prepare", transformer), ("model", model)]).fit(table(0), y)


def troubled(features: tuple[Feature, ...], seed: int) -> pd.DataFrame:
    """New rows with extreme numbers, missing values and unseen categories, as far as the features allow."""
    random = np.random.default_rng(seed)
    rows = table(seed)
    for feature in features:
        chosen = rows.index[random.random(len(rows)) < 0.1]
        if feature.type == "category":
            if feature.unseen == "other":
                rows.loc[chosen, feature.name] = "ZZ" if feature.name in WORDS else 99
            continue
        rows.loc[chosen, feature.name] = random.choice([0.0, -0.0, 1e-300, 50.0, 1e9], len(chosen))
        if not feature.required:
            rows.loc[rows.index[::13], feature.name] = np.nan
    return rows
