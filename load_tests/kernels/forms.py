"""A benchmark model in other forms: its own library's margins, the engine's bundle, an ONNX graph."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def reference(kind: str, source: Path, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """The margins that the model's own library computes for ``X``."""
    if kind == "lightgbm":
        import lightgbm

        return np.asarray(lightgbm.Booster(model_file=source).predict(X, raw_score=True), np.float64)
    if kind == "xgboost":
        import xgboost

        return np.asarray(xgboost.Booster(model_file=source).inplace_predict(X), np.float64)
    if kind == "catboost":
        import catboost

        model = catboost.CatBoostRegressor().load_model(str(source))
        return np.asarray(model.predict(X), np.float64)
    if kind == "pipeline":
        import lightgbm

        pipeline = pickle.loads((source.parent / "pipeline.pkl").read_bytes())  # noqa: S301 our own file
        return np.asarray(lightgbm.Booster(model_file=source).predict(pipeline.transform(X)), np.float64)
    if kind == "linear":
        p = np.load(source)
        x = np.clip(np.where(np.isnan(X), p["impute"], X), p["low"], p["high"])
        return np.asarray(1 / (1 + np.exp(-((x - p["shift"]) / p["scale"] @ p["coef"] + p["intercept"]))))
    return np.asarray(pickle.loads(source.read_bytes()).predict(X), np.float64)  # noqa: S301 our own file


def pack(kind: str, source: Path) -> Path:
    """The model's bundle beside it, with float32 features."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from engine.bundle import read_bundle
    from engine.packing import pack

    if kind == "linear":
        raise TypeError("its parameters go to the kernel directly")
    readable: Any = source.with_suffix(".json") if kind == "catboost" else source
    if kind == "sklearn":
        readable = pickle.loads(source.read_bytes())  # noqa: S301 our own file
    named = read_bundle(pack(readable, name="names", out=source.parent)).manifest.schema.names
    sample = source.parent / "sample.parquet"
    pq.write_table(pa.table({name: pa.array([0.0], pa.float32()) for name in named}), sample)
    return pack(readable, name="benchmark", out=source.parent, sample=sample)


def to_onnx(kind: str, source: Path) -> Path:
    """The model as a float32 ONNX graph with one input, beside it."""
    path = source.parent / "model.onnx"
    if not path.exists():
        path.write_bytes(CONVERTERS[kind](source))
    return path


def lightgbm_to_onnx(source: Path) -> bytes:
    """Through onnxmltools."""
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = lightgbm.Booster(model_file=source)
    inputs = [("X", FloatTensorType([None, booster.num_feature()]))]
    return bytes(convert_lightgbm(booster, initial_types=inputs).SerializeToString())


def xgboost_to_onnx(source: Path) -> bytes:
    """Through onnxmltools."""
    import xgboost
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = xgboost.Booster(model_file=source)
    inputs = [("X", FloatTensorType([None, booster.num_features()]))]
    return bytes(convert_xgboost(booster, initial_types=inputs).SerializeToString())


def catboost_to_onnx(source: Path) -> bytes:
    """CatBoost's own export."""
    import catboost

    path = source.with_suffix(".exported")
    catboost.CatBoostRegressor().load_model(str(source)).save_model(str(path), format="onnx")
    return path.read_bytes()


def sklearn_to_onnx(source: Path) -> bytes:
    """Through skl2onnx."""
    from skl2onnx import to_onnx

    trained = pickle.loads(source.read_bytes())  # noqa: S301 our own file
    return bytes(to_onnx(trained, np.empty((1, trained.n_features_in_), np.float32)).SerializeToString())


def linear_to_onnx(source: Path) -> bytes:
    """The pipeline as a graph of ordinary nodes."""
    from onnx import TensorProto, helper, numpy_helper

    p = {name: value.astype(np.float32) for name, value in np.load(source).items()}
    n_features = len(p["coef"])
    constants = {
        "impute": p["impute"],
        "low": p["low"],
        "high": p["high"],
        "shift": p["shift"],
        "weights": (p["coef"] / p["scale"]).reshape(-1, 1),
        "intercept": p["intercept"].reshape(1),
    }
    nodes = [
        helper.make_node("IsNaN", ["X"], ["missing"]),
        helper.make_node("Where", ["missing", "impute", "X"], ["imputed"]),
        helper.make_node("Max", ["imputed", "low"], ["raised"]),
        helper.make_node("Min", ["raised", "high"], ["clipped"]),
        helper.make_node("Sub", ["clipped", "shift"], ["shifted"]),
        helper.make_node("Gemm", ["shifted", "weights", "intercept"], ["margin"]),
        helper.make_node("Sigmoid", ["margin"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pipeline",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, n_features])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


CONVERTERS: dict[str, Callable[[Path], bytes]] = {
    "lightgbm": lightgbm_to_onnx,
    "xgboost": xgboost_to_onnx,
    "catboost": catboost_to_onnx,
    "sklearn": sklearn_to_onnx,
    "linear": linear_to_onnx,
}
