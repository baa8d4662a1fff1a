"""Ways to score rows through a scikit-learn pipeline and a LightGBM model."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from load_tests.kernels.contenders.contender import Batch, Contender


def folded(model: dict[str, Any]) -> Contender:
    """Our kernel on a forest that the pipeline is folded into."""
    from engine.bundle import read_bundle
    from engine.folding.forest import fold
    from engine.folding.sklearn_pipeline import pipeline_of, raw_features
    from engine.schema import Feature
    from kernels.forests.choice import choose
    from kernels.forests.forest import Forest

    pipeline = pickled(model)
    forest = Forest.of_arrays(read_bundle(model["bundle"]).arrays("forest.npz"))
    raw = raw_features(pipeline)
    features = [Feature(f.name, "float32", required=f.required) for f in raw]
    kernel = choose(fold(forest, features, pipeline_of(pipeline, raw, np.dtype(np.float64))), "float32")

    def prepare(X: Any) -> Batch:
        return np.ascontiguousarray(X), np.empty((len(X), 1))

    def score(batch: Batch) -> Any:
        kernel.score_rows(*batch)
        return batch[1]

    return Contender("", prepare, score, about=f"pipeline folded, {kernel.name}")


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
