"""Ways to score columns through a feature pipeline and a logistic model.

The model is an ``.npz`` with ``impute``, ``low``, ``high``, ``shift``, ``scale``, ``coef`` (float64[F]
each) and ``intercept``: impute, clip, standardise, weigh, sigmoid. Everyone gets columns, as Parquet
brings them, except ONNX Runtime, which gets a matrix.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from load_tests.kernels.contenders.contender import Batch, Contender


def tandem(model: dict[str, Any]) -> Contender:
    """Our fused kernel."""
    from kernels.linear.model import Linear
    from kernels.linear.transforms import Transform

    p = np.load(model["source"])
    steps = zip(p["impute"], p["low"], p["high"], p["shift"], p["scale"], strict=True)
    transforms = [Transform(i, low, high, shift=shift, scale=scale) for i, low, high, shift, scale in steps]
    linear = Linear(p["coef"].reshape(1, -1), p["intercept"].reshape(1), transforms)

    def prepare(X: Any) -> Batch:
        return columns_of(X), np.empty((len(X), 1))

    def score(batch: Batch) -> Any:
        linear.score_columns(*batch, link="sigmoid")
        return batch[1]

    return Contender("", prepare, score, about="fused columns")


def numpy_columns(model: dict[str, Any]) -> Contender:
    """NumPy in float32, a cache-sized tile at a time, which suits it best."""
    p = {name: value.astype(np.float32) for name, value in np.load(model["source"]).items()}
    weights = p["coef"] / p["scale"]
    tile = 8192

    def score(columns: Batch) -> Any:
        out = np.empty(len(columns[0]), np.float32)
        for start in range(0, len(out), tile):
            total = np.zeros(min(tile, len(out) - start), np.float32)
            for f, column in enumerate(columns):
                x = column[start : start + tile]
                x = np.where(np.isnan(x), p["impute"][f], x)
                np.clip(x, p["low"][f], p["high"][f], out=x)
                x -= p["shift"][f]
                x *= weights[f]
                total += x
            out[start : start + tile] = 1 / (1 + np.exp(-(total + p["intercept"])))
        return out

    return Contender(np.__version__, columns_of, score)


def polars_expression(model: dict[str, Any]) -> Contender:
    """One lazy Polars expression over a frame of float32 columns."""
    import polars as pl

    p = {name: value.tolist() for name, value in np.load(model["source"]).items()}
    margin = pl.lit(p["intercept"], pl.Float32)
    for f in range(len(p["coef"])):
        x = pl.col(f"c{f}").fill_nan(p["impute"][f]).clip(p["low"][f], p["high"][f])
        margin = margin + (x - p["shift"][f]) * (p["coef"][f] / p["scale"][f])
    scored = (1 / (1 + (-margin).exp())).alias("score")

    def prepare(X: Any) -> Batch:
        return pl.DataFrame({f"c{f}": column for f, column in enumerate(columns_of(X))}).lazy()

    return Contender(
        pl.__version__, prepare, lambda frame: frame.select(scored).collect()["score"].to_numpy()
    )


def onnxruntime_graph(model: dict[str, Any]) -> Contender:
    """An ONNX graph on the packed matrix, which is made outside the clock."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model["onnx"], options, providers=["CPUExecutionProvider"])
    return Contender(onnxruntime.__version__, np.ascontiguousarray, lambda X: session.run(None, {"X": X})[0])


def columns_of(X: Any) -> list[Any]:
    """A matrix as contiguous columns."""
    return [np.ascontiguousarray(column) for column in X.T]


LINEAR: dict[str, Callable[[dict[str, Any]], Contender]] = {
    "tandem-linear": tandem,
    "numpy": numpy_columns,
    "polars": polars_expression,
    "onnxruntime-linear": onnxruntime_graph,
}
