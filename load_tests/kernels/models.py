"""The models of the kernel benchmark: trained once, kept in the cache with their rows and true margins.

All answer a bare margin (regression, or a classifier told to stop before its link), so that every
contender computes the same thing.
"""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from load_tests.environments import CACHE
from load_tests.kernels.forms import pack, reference, to_onnx

N_ROWS = 1_000_000
N_CHECKED = 32_768
SEED = 7

Rows = NDArray[np.float32]


class Model(msgspec.Struct, frozen=True):
    """One trained model on disk.

    Attributes:
        name: As given on the command line.
        kind: The library that trained it, which is also its reference.
        source: The library's own file.
        bundle: The same, packed for the engine; empty if it cannot be.
        onnx: The same as ONNX; empty if there is no exact enough converter.
        rows: ``.npy``, C-order float32[N_ROWS, F].
        margins: ``.npy``, float64[N_CHECKED], the reference's answer to the first rows.
        notes: Why something is missing.
    """

    name: str
    kind: str
    source: str
    bundle: str
    onnx: str
    rows: str
    margins: str
    notes: tuple[str, ...] = ()


class Recipe(msgspec.Struct, frozen=True):
    """How a model is made: the library, and what writes its file and ``rows.npy`` into a folder."""

    kind: str
    train: Callable[[Path], None]


def lightgbm_model(n_trees: int, n_leaves: int, n_features: int, *, data: str = "synthetic") -> Recipe:
    """A LightGBM regression."""

    def train(folder: Path) -> None:
        import lightgbm

        X, labels, categorical = DATA[data](n_features)
        parameters = {
            "objective": "regression",
            "num_leaves": n_leaves,
            "learning_rate": 0.05,
            "verbosity": -1,
            "seed": SEED,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
        }
        data_set = lightgbm.Dataset(X, labels, categorical_feature=categorical)
        booster = lightgbm.train(parameters, data_set, num_boost_round=n_trees)
        booster.save_model(folder / "model.txt")
        save_rows(folder, X)

    return Recipe("lightgbm", train)


def xgboost_model(n_trees: int, depth: int, n_features: int) -> Recipe:
    """An XGBoost regression."""

    def train(folder: Path) -> None:
        import xgboost

        X, labels, _ = synthetic(n_features)
        parameters = {"max_depth": depth, "eta": 0.05, "tree_method": "hist", "seed": SEED, "nthread": 1}
        booster = xgboost.train(parameters, xgboost.DMatrix(X, labels), num_boost_round=n_trees)
        booster.save_model(folder / "model.json")
        save_rows(folder, X)

    return Recipe("xgboost", train)


def catboost_model(n_trees: int, depth: int, n_features: int) -> Recipe:
    """A CatBoost regression, also as JSON for the engine."""

    def train(folder: Path) -> None:
        import catboost

        X, labels, _ = synthetic(n_features)
        model = catboost.CatBoostRegressor(
            iterations=n_trees,
            depth=depth,
            random_seed=SEED,
            thread_count=1,
            verbose=False,
            allow_writing_files=False,
        )
        model.fit(X, labels)
        model.save_model(str(folder / "model.cbm"))
        model.save_model(str(folder / "model.json"), format="json")
        save_rows(folder, X)

    return Recipe("catboost", train)


def sklearn_forest(n_trees: int, n_leaves: int, n_features: int) -> Recipe:
    """A random forest of scikit-learn, pickled and read back by this benchmark only."""

    def train(folder: Path) -> None:
        from sklearn.ensemble import RandomForestRegressor

        X, labels, _ = synthetic(n_features)
        forest = RandomForestRegressor(n_trees, max_leaf_nodes=n_leaves, random_state=SEED, n_jobs=1)
        forest.fit(X[:20_000], labels[:20_000])
        (folder / "model.pkl").write_bytes(pickle.dumps(forest))
        save_rows(folder, X)

    return Recipe("sklearn", train)


def pipeline_and_lightgbm(n_trees: int, n_leaves: int, n_features: int) -> Recipe:
    """A scikit-learn pipeline of common steps, and LightGBM on what it makes."""

    def train(folder: Path) -> None:
        import lightgbm
        from sklearn.compose import make_column_transformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer, StandardScaler

        X, labels, _ = synthetic(n_features)
        half = n_features // 2
        X[:, half:] = np.exp(X[:, half:])
        X[np.random.default_rng(SEED).random(X.shape) < 0.02] = np.nan
        clip = FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": 1e4})
        pipeline = make_column_transformer(
            (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), slice(0, half)),
            (make_pipeline(clip, FunctionTransformer(np.log1p), StandardScaler()), slice(half, n_features)),
        )
        data_set = lightgbm.Dataset(pipeline.fit_transform(X), labels)
        parameters = {"num_leaves": n_leaves, "learning_rate": 0.05, "verbosity": -1, "num_threads": 1}
        booster = lightgbm.train(parameters, data_set, num_boost_round=n_trees)
        booster.save_model(folder / "model.txt")
        (folder / "pipeline.pkl").write_bytes(pickle.dumps(pipeline))
        save_rows(folder, X)

    return Recipe("pipeline", train)


def pipeline_and_logistic(n_features: int) -> Recipe:
    """Impute, clip, standardise and a logistic model, as parameters for each contender to follow."""

    def train(folder: Path) -> None:
        rng = np.random.default_rng(SEED)
        X, _, _ = synthetic(n_features)
        X[rng.random(X.shape) < 0.02] = np.nan
        parameters = {
            "impute": np.nanmedian(X, axis=0),
            "low": np.nanquantile(X, 0.01, axis=0),
            "high": np.nanquantile(X, 0.99, axis=0),
            "shift": np.nanmean(X, axis=0),
            "scale": np.nanstd(X, axis=0),
            "coef": rng.normal(size=n_features) / 3,
            "intercept": np.array(0.1),
        }
        np.savez(
            folder / "model.npz",
            **{name: p.astype(np.float32).astype(float) for name, p in parameters.items()},
        )
        save_rows(folder, X)

    return Recipe("linear", train)


RECIPES = {
    "100x31-30": lightgbm_model(100, 31, 30),
    "500x31-30": lightgbm_model(500, 31, 30),
    "500x63-30": lightgbm_model(500, 63, 30),
    "500x31-100": lightgbm_model(500, 31, 100),
    "200x255-30": lightgbm_model(200, 255, 30),
    "flights-100x31": lightgbm_model(100, 31, 0, data="flights"),
    "flights-500x63": lightgbm_model(500, 63, 0, data="flights"),
    "flights-categories-100x31": lightgbm_model(100, 31, 0, data="flights with categories"),
    "xgboost-500-depth6": xgboost_model(500, 6, 30),
    "catboost-500-depth6": catboost_model(500, 6, 30),
    "forest-100x1215": sklearn_forest(100, 1215, 30),
    "pipeline-500x31-30": pipeline_and_lightgbm(500, 31, 30),
    "logistic-30": pipeline_and_logistic(30),
}
"""By name: trees × leaves - features."""
QUICK = ("100x31-30",)


def load(name: str, *, cache: Path = CACHE) -> Model:
    """The model of that name, trained now if it is not in the cache, and packed by today's engine."""
    folder = (cache / "kernels" / name).absolute()
    kind = RECIPES[name].kind
    source, margins = folder / SOURCES[kind], folder / "margins.npy"
    if not margins.exists():
        print(f"training {name}", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        RECIPES[name].train(folder)
        rows = np.load(folder / "rows.npy", mmap_mode="r")
        np.save(margins, reference(kind, source, np.array(rows[:N_CHECKED])))
    notes: list[str] = []
    return Model(
        name=name,
        kind=kind,
        source=str(source),
        bundle=attempt("bundle", pack, kind, source, notes),
        onnx=attempt("ONNX", to_onnx, kind, source, notes),
        rows=str(folder / "rows.npy"),
        margins=str(margins),
        notes=tuple(notes),
    )


SOURCES = {
    "lightgbm": "model.txt",
    "xgboost": "model.json",
    "catboost": "model.cbm",
    "sklearn": "model.pkl",
    "pipeline": "model.txt",
    "linear": "model.npz",
}


def attempt(form: str, make: Callable[[str, Path], Path], kind: str, source: Path, notes: list[str]) -> str:
    """The path of another form of a model, or empty with a note why there is none."""
    try:
        return str(make(kind, source))
    except Exception as error:  # noqa: BLE001 a converter's failure is a line of the report
        notes.append(f"no {form}: {type(error).__name__}: {str(error)[:160]}")
        return ""


def synthetic(n_features: int) -> tuple[Rows, NDArray[np.float64], list[int]]:
    """Rows, labels and no categorical features: half continuous, half of few distinct values."""
    rng = np.random.default_rng(SEED)
    X = rng.normal(size=(100_000, n_features)).astype(np.float32)
    X[:, 1::2] = np.round(X[:, 1::2] * 16) / 16
    weights = rng.normal(size=n_features)
    labels = np.sin(X * weights).sum(axis=1) + X[:, 0] * X[:, 1] + rng.normal(size=len(X)) / 4
    return X, labels.astype(np.float64), []


def flight_codes(_: int) -> tuple[Rows, NDArray[np.float64], list[int]]:
    """Flights of 2013 with strings as ranks, missing values as NaN; the label is being late."""
    import polars as pl

    from engine.demo.flights import CATEGORIES, FEATURES, LABEL, flights

    table = flights().sample(fraction=1.0, shuffle=True, seed=SEED)
    ranks = [pl.col(name).rank("dense") - 1 for name in CATEGORIES]
    coded = table.with_columns(ranks).select(pl.col(FEATURES).cast(pl.Float32).fill_null(np.nan))
    return coded.to_numpy(order="c"), table[LABEL].cast(pl.Float64).to_numpy(), []


def flight_categories(_: int) -> tuple[Rows, NDArray[np.float64], list[int]]:
    """The same, the ranks declared as categories."""
    from engine.demo.flights import CATEGORIES, FEATURES

    X, labels, _none = flight_codes(0)
    return X, labels, [FEATURES.index(name) for name in CATEGORIES]


DATA = {
    "synthetic": synthetic,
    "flights": flight_codes,
    "flights with categories": flight_categories,
}


def save_rows(folder: Path, X: Rows) -> None:
    """Write ``N_ROWS`` rows drawn from ``X``."""
    chosen = np.random.default_rng(SEED + 1).integers(0, len(X), N_ROWS)
    np.save(folder / "rows.npy", X[chosen])
