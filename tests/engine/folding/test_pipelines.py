"""Folded pipelines give the bits of the pipelines, on rows beside every split."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, RandomForestRegressor
from sklearn.feature_extraction import FeatureHasher
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

import engine
from engine import Scorer
from engine.errors import InvalidModel, UnsupportedModel
from engine.importers.imported import FOREST
from kernels.forests.forest import CATEGORICAL, Forest

N_ROWS = 1500
MODELS = {
    "lightgbm": lambda: lightgbm.LGBMRegressor(n_estimators=25, verbose=-1, n_jobs=1),
    "xgboost": lambda: xgboost.XGBRegressor(n_estimators=10, n_jobs=1),
    "random forest": lambda: RandomForestRegressor(10, max_depth=7, random_state=0),
    "extra trees": lambda: ExtraTreesRegressor(10, max_depth=7, random_state=0),
    "gradient boosting": lambda: GradientBoostingRegressor(n_estimators=15, random_state=0),
}


def log_of_positive(X: Any) -> Any:
    return np.log1p(np.maximum(X, 0))


def frame(n_rows: int = N_ROWS, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "amount": random.lognormal(3, 2, n_rows),
            "age": random.integers(18, 90, n_rows).astype(float),
            "balance": random.normal(size=n_rows) * 1000,
            "carrier": random.choice(["AA", "DL", "UA"], n_rows).astype(object),
            "origin": random.choice(["EWR", "JFK", "LGA", "TEB"], n_rows).astype(object),
            "zone": random.integers(0, 30, n_rows),
        }
    )
    rows.loc[random.random(n_rows) < 0.1, "age"] = np.nan
    return rows


def target(rows: pd.DataFrame) -> Any:
    noise = np.random.default_rng(1).normal(size=len(rows))
    late = 2 * (rows.carrier == "UA") + (rows.zone % 3) + np.nan_to_num(rows.age) / 50
    return np.log1p(rows.amount) + rows.balance / 500 + late + noise


def columns() -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("log", make_pipeline(SimpleImputer(), FunctionTransformer(log_of_positive), StandardScaler()),
             ["amount", "age"]),
            ("scale", MinMaxScaler((1, -0.5 + 2)), ["balance"]),
            ("one hot", OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
            ("target", TargetEncoder(random_state=0), ["origin"]),
            ("ordinal", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["zone"]),
        ]
    )  # fmt: skip


def packed(pipeline: Pipeline, out: Path, **options: Any) -> tuple[Scorer, Forest]:
    path = engine.pack(pipeline, name="folded", out=out, **options)
    from engine.bundle import read_bundle

    return Scorer.load(path), Forest.of_arrays(read_bundle(path).arrays(FOREST))


def beside_every_split(forest: Forest, names: list[str], rows: pd.DataFrame) -> pd.DataFrame:
    """For each numeric split three rows: at it, one ulp below and one ulp above."""
    inner = (forest.feature >= 0) & ((forest.rule & CATEGORICAL) == 0) & np.isfinite(forest.threshold)
    parts = []
    for feature, name in enumerate(names):
        edges = np.unique(forest.threshold[inner & (forest.feature == feature)])
        values = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
        part = rows.sample(len(values), replace=True, random_state=feature).reset_index(drop=True)
        if len(values):
            part[name] = values.astype(rows[name].dtype)
            parts.append(part)
    return pd.concat([rows, *parts], ignore_index=True)


def scores(scorer: Scorer, rows: pd.DataFrame) -> Any:
    return scorer.score(pa.Table.from_pandas(rows, preserve_index=False)).column(0).to_numpy()


def expected(pipeline: Pipeline, rows: pd.DataFrame) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipeline.predict(rows)


def fitted(model: Any, transformer: Any, rows: pd.DataFrame) -> Pipeline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Pipeline([("prepare", transformer), ("model", model)]).fit(rows, target(rows_with_all(rows)))


def rows_with_all(rows: pd.DataFrame) -> pd.DataFrame:
    return frame(len(rows)).assign(**{name: rows[name] for name in rows})


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_folded_column_transformer_has_the_bits_of_the_pipeline(model: Any, tmp_path: Path) -> None:
    pipeline = fitted(model(), columns(), frame())
    scorer, forest = packed(pipeline, tmp_path)
    rows = beside_every_split(forest, list(scorer.schema.names), frame(seed=2))
    rows.loc[::7, "carrier"] = "ZZ"
    rows.loc[::11, "zone"] = 99
    assert (scores(scorer, rows) == expected(pipeline, rows)).all()


@pytest.mark.parametrize(
    "transformer",
    [StandardScaler(), MinMaxScaler(), RobustScaler(), QuantileTransformer(n_quantiles=50),
     PowerTransformer(),
     KBinsDiscretizer(8, encode="ordinal"),
     FunctionTransformer(np.negative), make_pipeline(SimpleImputer(), StandardScaler(), MinMaxScaler())],
    ids=lambda transformer: type(transformer).__name__,
)  # fmt: skip
def test_a_transformer_over_all_columns_has_the_bits_of_the_pipeline(
    transformer: Any, tmp_path: Path
) -> None:
    rows = frame()[["amount", "balance"]]
    pipeline = fitted(MODELS["lightgbm"](), transformer, rows)
    scorer, forest = packed(pipeline, tmp_path)
    asked = beside_every_split(forest, list(scorer.schema.names), frame(seed=2)[["amount", "balance"]])
    assert (scores(scorer, asked) == expected(pipeline, asked)).all()


@pytest.mark.parametrize("first", [StandardScaler(), "passthrough", None], ids=str)
def test_a_pipeline_that_ends_in_a_pipeline_is_folded_whole(first: Any, tmp_path: Path) -> None:
    rows = frame()[["amount", "balance"]]
    last = make_pipeline(MinMaxScaler(), make_pipeline("passthrough", MODELS["random forest"]()))
    pipeline = fitted(last, first, rows)
    scorer, forest = packed(pipeline, tmp_path)
    asked = beside_every_split(forest, list(scorer.schema.names), rows)
    assert (scores(scorer, asked) == expected(pipeline, asked)).all()


@pytest.mark.parametrize(
    "chosen", [slice("age", "balance"), slice(None, "balance"), slice("age", None), slice(1, 3)]
)
def test_a_slice_of_columns_by_name_has_its_last_one(chosen: slice, tmp_path: Path) -> None:
    rows = frame()[["amount", "age", "balance"]]
    transformer = ColumnTransformer([("scaled", StandardScaler(), chosen)], remainder="passthrough")
    pipeline = fitted(MODELS["lightgbm"](), transformer, rows)
    scorer, forest = packed(pipeline, tmp_path)
    asked = beside_every_split(forest, list(scorer.schema.names), rows)
    assert (scores(scorer, asked) == expected(pipeline, asked)).all()


@pytest.mark.parametrize(
    ("remainder", "names"), [("drop", ["amount", "age"]), ("passthrough", ["amount", "age", "zone"])]
)
def test_columns_that_a_column_transformer_drops_are_not_asked_for(
    remainder: str, names: list[str], tmp_path: Path
) -> None:
    parts = [("scaled", StandardScaler(), ["amount", "age"]), ("unused", "drop", ["carrier", "origin"])]
    rows = frame()[["carrier", "amount", "origin", "age", "zone"]]
    pipeline = fitted(MODELS["lightgbm"](), ColumnTransformer(parts, remainder=remainder), rows)
    scorer, forest = packed(pipeline, tmp_path)
    assert list(scorer.schema.names) == names
    asked = beside_every_split(forest, names, frame(seed=2)[list(rows)])
    assert (scores(scorer, asked) == expected(pipeline, asked)).all()


def test_float32_columns_are_transformed_in_float32_as_the_pipeline_does(tmp_path: Path) -> None:
    rows = frame()[["amount", "balance"]].astype(np.float32)
    pipeline = fitted(MODELS["lightgbm"](), StandardScaler(), rows)
    sample = tmp_path / "sample.parquet"
    rows.to_parquet(sample)
    scorer, forest = packed(pipeline, tmp_path, sample=sample)
    assert scorer.schema.block == "float32"
    edges = forest.threshold[np.isfinite(forest.threshold)]
    assert (edges == edges.astype(np.float32)).all()
    asked = frame(seed=2)[["amount", "balance"]].astype(np.float32)
    assert (scores(scorer, asked) == expected(pipeline, asked)).all()


def test_a_mean_of_float32_numbers_is_imputed_as_the_pipeline_does(tmp_path: Path) -> None:
    years = frame()[["age"]].astype(np.float32) + np.float32(1980)
    model = make_pipeline(SimpleImputer(), StandardScaler(), LinearRegression())
    model.fit(years, np.isnan(years.age))
    folded = Scorer.load(engine.pack(model, name="m", out=tmp_path))
    scores = folded.score(pa.table({"age": [None, 2001.5]}))["score"].to_pylist()
    assert scores == pytest.approx(model.predict(pd.DataFrame({"age": [np.nan, 2001.5]})), rel=1e-12)


def test_bins_of_large_float32_columns_have_their_weights_before_a_linear_model(tmp_path: Path) -> None:
    rows, asked = ((frame(seed=seed)[["balance"]] * 1000).astype(np.float32) for seed in (0, 2))
    pipeline = fitted(LinearRegression(), KBinsDiscretizer(8, encode="onehot-dense"), rows)
    sample = tmp_path / "sample.parquet"
    rows.to_parquet(sample)
    scorer = Scorer.load(engine.pack(pipeline, name="binned", out=tmp_path, sample=sample))
    np.testing.assert_allclose(scores(scorer, asked), expected(pipeline, asked), rtol=1e-6)


def test_missing_values_and_unseen_categories_follow_the_transformers_own_rules(tmp_path: Path) -> None:
    rows = frame()[["age", "carrier", "origin"]]
    transformer = ColumnTransformer(
        [("scale", StandardScaler(), ["age"]), ("strict", OneHotEncoder(), ["carrier"]),
         ("lenient", OneHotEncoder(handle_unknown="ignore"), ["origin"])]
    )  # fmt: skip
    scorer, _ = packed(fitted(MODELS["lightgbm"](), transformer, rows), tmp_path)
    age, carrier, origin = scorer.schema.features
    assert not age.required
    assert carrier.unseen == "bad"
    assert carrier.required
    assert origin.unseen == "other"
    assert origin.categories == ("EWR", "JFK", "LGA", "TEB")


@pytest.mark.parametrize(
    ("transformer", "sentence"),
    [
        (PCA(1), "PCA cannot be folded"),
        (FunctionTransformer(np.abs), "feature 'balance' neither rises nor falls"),
        (FunctionTransformer(np.sin), "neither rises nor falls"),
        (FunctionTransformer(lambda X: X - X.mean()), "made of more than feature 'balance' of its own row"),
        (
            make_pipeline(KBinsDiscretizer(4, encode="onehot-dense"), StandardScaler()),
            "works on one-hot bins",
        ),
        (
            make_pipeline(FunctionTransformer(np.sign), OneHotEncoder()),
            "encodes what another step has computed",
        ),
        (PolynomialFeatures(), "PolynomialFeatures cannot be folded"),
    ],
    ids=["mixes columns", "turns around", "waves", "mixes rows", "scales bins", "encodes signs", "powers"],
)
def test_what_cannot_be_folded_is_refused_by_name(transformer: Any, sentence: str, tmp_path: Path) -> None:
    pipeline = fitted(MODELS["lightgbm"](), transformer, frame()[["balance"]])
    with pytest.raises(UnsupportedModel, match=sentence):
        engine.pack(pipeline, name="no", out=tmp_path)


def test_a_step_that_takes_no_table_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    words = [[word] for word in frame()["carrier"]]
    pipeline = make_pipeline(FeatureHasher(8, input_type="string"), MODELS["lightgbm"]())
    pipeline.fit(words, target(frame()))
    with pytest.raises(UnsupportedModel, match=r"FeatureHasher cannot be folded.* `hash: \{buckets: n\}`"):
        engine.pack(pipeline, name="no", out=tmp_path)


def test_a_pipeline_that_is_not_fitted_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="expected a fitted Pipeline; call fit first"):
        engine.pack(make_pipeline(StandardScaler(), LinearRegression()), name="no", out=tmp_path)


def test_one_raw_column_may_not_be_a_number_and_a_category(tmp_path: Path) -> None:
    transformer = ColumnTransformer(
        [("number", "passthrough", ["zone"]), ("word", OneHotEncoder(), ["zone"])]
    )
    pipeline = fitted(MODELS["lightgbm"](), transformer, frame()[["zone"]])
    with pytest.raises(UnsupportedModel, match="'zone' is used as a number and as a category"):
        engine.pack(pipeline, name="no", out=tmp_path)


@pytest.mark.parametrize(
    ("transformer", "sentence"),
    [
        (FunctionTransformer(np.sqrt), "FunctionTransformer of feature 'balance' has no columnar kernel"),
        (
            make_pipeline(FunctionTransformer(np.log1p), FunctionTransformer(np.log1p)),
            "takes more than one of log1p, power and quantile transforms.*reorder the steps",
        ),
        (
            make_pipeline(StandardScaler(), QuantileTransformer(n_quantiles=20)),
            "scales before a quantile transform.*train without them",
        ),
        (make_pipeline(KBinsDiscretizer(4, encode="ordinal"), StandardScaler()), "StandardScaler after bins"),
        (
            make_pipeline(PowerTransformer(), MinMaxScaler(clip=True)),
            "clips after a power or quantile transform",
        ),
        (MissingIndicator(missing_values=0.0, features="all"), r"MissingIndicator\(missing_values=…\)"),
        (SimpleImputer(missing_values=0.0), r"SimpleImputer\(missing_values=…\)"),
    ],
    ids=[
        "a curve",
        "two logarithms",
        "scaled quantiles",
        "scaled bins",
        "a clipped power",
        "zeros told",
        "zeros imputed",
    ],
)
def test_what_no_columnar_kernel_computes_is_refused_before_a_linear_model(
    transformer: Any, sentence: str, tmp_path: Path
) -> None:
    rows = frame()[["amount"]].set_axis(["balance"], axis=1)
    pipeline = fitted(LinearRegression(), transformer, rows)
    with pytest.raises(UnsupportedModel, match=sentence):
        engine.pack(pipeline, name="no", out=tmp_path)


@pytest.mark.parametrize(
    "chain",
    [
        [MinMaxScaler(), FunctionTransformer(np.log1p)],
        [RobustScaler(), FunctionTransformer(np.log1p), StandardScaler()],
        [PowerTransformer()],
        [PowerTransformer(method="box-cox"), MaxAbsScaler()],
        [MinMaxScaler((1, 2)), PowerTransformer(method="box-cox")],
        [QuantileTransformer(n_quantiles=50), StandardScaler()],
        [QuantileTransformer(n_quantiles=50, output_distribution="normal")],
        [FunctionTransformer(np.negative), QuantileTransformer(n_quantiles=50), MinMaxScaler((-1, 1))],
        [StandardScaler(), PowerTransformer(standardize=False), MinMaxScaler()],
        [
            MaxAbsScaler(),
            FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": 1}),
            FunctionTransformer(np.log1p),
            MinMaxScaler((1, 2), clip=True),
        ],
    ],
    ids=lambda chain: " ".join(type(step).__name__ for step in chain),
)
def test_curves_of_scaled_numbers_give_a_linear_model_its_numbers(chain: Any, tmp_path: Path) -> None:
    rows = frame()[["amount"]]
    pipeline = fitted(LinearRegression(), make_pipeline(*chain), rows)
    scorer = Scorer.load(engine.pack(pipeline, name="logged", out=tmp_path))
    asked = frame(seed=2)[["amount"]]
    asked.loc[:2, "amount"] = [1e-9, 0.5, 1e6]
    np.testing.assert_allclose(scores(scorer, asked), expected(pipeline, asked), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("beside", ["float32", "float64"])
def test_normal_scores_of_float32_columns_are_scikit_learns_beside_columns_of_either_type(
    beside: str, tmp_path: Path
) -> None:
    rows = frame()[["age", "amount"]].ffill().astype({"age": "float32", "amount": beside})
    quantiles = QuantileTransformer(n_quantiles=40, output_distribution="normal")
    pipeline = fitted(LinearRegression(), quantiles, rows)
    sample = tmp_path / "sample.parquet"
    rows.to_parquet(sample)
    scorer = Scorer.load(engine.pack(pipeline, name="scored", out=tmp_path, sample=sample))
    known = pipeline[0].quantiles_[:, 0]
    around = np.linspace(
        known[-1] - 1, known[-1] + 1, 999
    )  # where shares have few bits left to tell them apart
    asked = pd.DataFrame({"age": np.concatenate([known, around]), "amount": 20.0}).astype(rows.dtypes)
    np.testing.assert_allclose(scores(scorer, asked), expected(pipeline, asked), rtol=1e-6, atol=1e-6)


def test_what_box_and_cox_refuse_has_no_score_before_a_linear_model(tmp_path: Path) -> None:
    pipeline = fitted(LinearRegression(), PowerTransformer(method="box-cox"), frame()[["amount"]])
    scorer = Scorer.load(engine.pack(pipeline, name="powers", out=tmp_path))
    asked = pd.DataFrame({"amount": [5e-324, 2.0, 0.0, -0.0, -3.0]})
    assert np.isnan(scores(scorer, asked)).tolist() == [False, False, True, True, True]


def test_a_box_cox_transform_whose_float32_numbers_are_lost_in_rounding_is_refused(tmp_path: Path) -> None:
    rows = frame()[["amount"]].astype(np.float32)
    chain = make_pipeline(MinMaxScaler((1, 2)), PowerTransformer(method="box-cox", standardize=False))
    pipeline = fitted(LinearRegression(), chain, rows)
    pipeline[0][1].lambdas_[0] = -40_000  # as it is where numbers differ in their last bits only
    sample = tmp_path / "sample.parquet"
    rows.to_parquet(sample)
    with pytest.raises(UnsupportedModel, match="'amount' does not compute what its steps say"):
        engine.pack(pipeline, name="lost", out=tmp_path, sample=sample)


def test_a_box_cox_transform_of_clipped_numbers_before_a_forest_has_its_bits(tmp_path: Path) -> None:
    clip = FunctionTransformer(np.clip, kw_args={"a_min": 0.1, "a_max": 1e4})
    chain = make_pipeline(clip, PowerTransformer(method="box-cox"))
    pipeline = fitted(MODELS["lightgbm"](), chain, frame()[["amount", "balance"]])
    scorer, forest = packed(pipeline, tmp_path)
    asked = beside_every_split(forest, list(scorer.schema.names), frame(seed=2)[["amount", "balance"]])
    assert (scores(scorer, asked) == expected(pipeline, asked)).all()


def test_a_clip_where_log1p_of_a_scaled_number_may_be_missing_is_refused(tmp_path: Path) -> None:
    chain = make_pipeline(RobustScaler(), FunctionTransformer(np.log1p), MinMaxScaler(clip=True))
    pipeline = fitted(LinearRegression(), chain, frame()[["amount"]])
    with pytest.raises(UnsupportedModel, match="clips after log1p, which makes numbers below -1 missing"):
        engine.pack(pipeline, name="no", out=tmp_path)


@pytest.mark.parametrize("model", [LinearRegression, MODELS["lightgbm"]], ids=["linear", "forest"])
def test_a_pipeline_that_was_pickled_has_the_same_bundle(model: Any, tmp_path: Path) -> None:
    chain = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    pipeline = fitted(model(), chain, frame()[["age"]])
    again = pickle.loads(pickle.dumps(pipeline))  # its NaN is another object than np.nan
    assert engine.pack(again, name="a", out=tmp_path) == engine.pack(pipeline, name="a", out=tmp_path)
