"""Ways to score rows through a scikit-learn pipeline and a LightGBM model."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from load_tests.contenders.contender import Batch, Contender


def folded(model: dict[str, Any]) -> Contender:
    """Our kernel on a forest that the pipeline is folded into."""
    from engine.bundle import read_bundle
    from kernels.choice import choose
    from kernels.folded_forest import FoldedColumn, fold_forest
    from kernels.forest import Forest

    pipeline = pickled(model)
    forest = Forest.of_arrays(read_bundle(model["bundle"]).arrays("forest.npz"))
    columns = [FoldedColumn(f, step_of(pipeline, f, forest.n_features)) for f in range(forest.n_features)]
    kernel = choose(fold_forest(forest, columns, n_features=forest.n_features, dtype=np.float32), "float32")

    def prepare(X: Any) -> Batch:
        return np.ascontiguousarray(X), np.empty((len(X), 1))

    def score(batch: Batch) -> Any:
        kernel.score_rows(*batch)
        return batch[1]

    return Contender("", prepare, score, about=f"pipeline folded, {kernel.name}")


def step_of(pipeline: Any, feature: int, n_features: int) -> Callable[[Any], Any]:
    """What the pipeline does to one feature: the pipeline itself, given rows that are 0 elsewhere."""
    import sklearn

    def transform(raw: Any) -> Any:
        X = np.zeros((len(raw), n_features), raw.dtype)
        X[:, feature] = raw
        with sklearn.config_context(assume_finite=True):
            return pipeline.transform(X)[:, feature]

    return transform


def separate(model: dict[str, Any]) -> Contender:
    """``pipeline.transform`` and ``Booster.predict``, with one thread."""
    import lightgbm

    pipeline, booster = pickled(model), lightgbm.Booster(model_file=model["source"])

    def score(X: Batch) -> Any:
        return booster.predict(pipeline.transform(X), num_threads=1)

    return Contender(lightgbm.__version__, np.ascontiguousarray, score, about="scikit-learn, LightGBM")


def pickled(model: dict[str, Any]) -> Any:
    """The pipeline, which lies beside the booster."""
    return pickle.loads(Path(model["source"]).with_name("pipeline.pkl").read_bytes())  # noqa: S301


PIPELINES: dict[str, Callable[[dict[str, Any]], Contender]] = {
    "tandem-folded": folded,
    "sklearn-pipeline": separate,
}
