"""Libraries that score tree ensembles. Each function loads a model; its imports are its environment's."""

import ctypes
import json
import pickle
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from load_tests.kernels.contenders.contender import Batch, Contender


def tandem(model: dict[str, Any]) -> Contender:
    """Our kernel, rows in, margins out."""
    kernel, forest = tandem_kernel(model)
    dtype = np.float32 if forest.single else np.float64

    def prepare(X: Any) -> Batch:
        return np.ascontiguousarray(X), np.empty((len(X), forest.n_outputs), dtype)

    def score(batch: Batch) -> Any:
        kernel.score_rows(*batch)
        return batch[1]

    return Contender("", prepare, score, about=kernel.name)


def tandem_columns(model: dict[str, Any]) -> Contender:
    """Our kernel over columns, as Parquet brings them."""
    kernel, forest = tandem_kernel(model)
    dtype = np.float32 if forest.single else np.float64

    def prepare(X: Any) -> Batch:
        return [np.ascontiguousarray(x) for x in X.T], np.empty((len(X), forest.n_outputs), dtype)

    def score(batch: Batch) -> Any:
        kernel.score_columns(*batch)
        return batch[1]

    return Contender("", prepare, score, about=kernel.name)


def tandem_dict(model: dict[str, Any]) -> Contender:
    """The whole of the engine in process: a list of dicts in, scores out."""
    from engine.scorer import Scorer

    scorer = Scorer.load(model["bundle"])
    names, prepare_rows, score_rows = scorer.schema.names, scorer.preparer.rows, scorer.score_rows

    def prepare(X: Any) -> Batch:
        rows = [[None if x != x else x for x in row] for row in X.tolist()]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def score(batch: Batch) -> Any:
        X, _bad = prepare_rows(batch)
        return score_rows(X)

    return Contender("", prepare, score, about="dict to score", most_rows=64)


def tandem_kernel(model: dict[str, Any]) -> tuple[Any, Any]:
    """The kernel chosen for the model's bundle over its block of float32, and the forest."""
    from engine.bundle import read_bundle
    from kernels.forests.choice import choose
    from kernels.forests.forest import Forest

    bundle = read_bundle(model["bundle"])
    forest = Forest.of_arrays(bundle.arrays("forest.npz"))
    return choose(forest, bundle.manifest.schema.dtype), forest


def lightgbm(model: dict[str, Any]) -> Contender:
    """``Booster.predict`` with one thread."""
    import lightgbm

    booster = lightgbm.Booster(model_file=model["source"])
    score = lambda X: booster.predict(X, raw_score=True, num_threads=1)  # noqa: E731
    return Contender(lightgbm.__version__, np.ascontiguousarray, score)


def lightgbm_single(model: dict[str, Any]) -> Contender:
    """LightGBM's C interface made for one row at a time."""
    import lightgbm
    from lightgbm.basic import _LIB

    booster = lightgbm.Booster(model_file=model["source"])
    handle, n_features = ctypes.c_void_p(), booster.num_feature()
    _LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
        booster._handle, 1, 0, -1, 0, n_features, b"num_threads=1", ctypes.byref(handle)
    )
    length, out = ctypes.c_int64(), (ctypes.c_double * 1)()

    def score(address: ctypes.c_void_p) -> Any:
        _LIB.LGBM_BoosterPredictForMatSingleRowFast(handle, address, ctypes.byref(length), out)
        return out

    keep = []

    def prepare(X: Any) -> Batch:
        keep.append((booster, np.ascontiguousarray(X, np.float32)))
        return ctypes.c_void_p(keep[-1][1].ctypes.data)

    return Contender(lightgbm.__version__, prepare, score, about="single-row-fast", most_rows=1)


def xgboost(model: dict[str, Any]) -> Contender:
    """``Booster.inplace_predict`` with one thread."""
    import xgboost

    booster = xgboost.Booster({"nthread": 1}, model_file=model["source"])
    score = lambda X: booster.inplace_predict(X, predict_type="margin")  # noqa: E731
    return Contender(xgboost.__version__, np.ascontiguousarray, score)


def catboost(model: dict[str, Any]) -> Contender:
    """``CatBoost.predict`` with one thread."""
    import catboost

    trained = catboost.CatBoostRegressor().load_model(model["source"])
    score = lambda X: trained.predict(X, prediction_type="RawFormulaVal", thread_count=1)  # noqa: E731
    return Contender(catboost.__version__, np.ascontiguousarray, score)


def sklearn(model: dict[str, Any]) -> Contender:
    """``predict`` with one job."""
    import sklearn

    trained = pickle.loads(Path(model["source"]).read_bytes())  # noqa: S301 the benchmark's own file
    return Contender(sklearn.__version__, np.ascontiguousarray, trained.predict)


def onnxruntime(model: dict[str, Any]) -> Contender:
    """One packed float32 input, one thread, no spinning."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model["onnx"], options, providers=["CPUExecutionProvider"])
    name, outputs = session.get_inputs()[0].name, [session.get_outputs()[-1].name]
    score = lambda X: session.run(outputs, {name: X})[0]  # noqa: E731
    return Contender(onnxruntime.__version__, np.ascontiguousarray, score)


def lleaves(model: dict[str, Any]) -> Contender:
    """The compiled function called at once, without the checks of ``Model.predict``."""
    import lleaves

    compiled = lleaves.Model(model["source"])
    compiled.compile(cache=model["source"] + ".lleaves", raw_score=True)
    double = ctypes.POINTER(ctypes.c_double)

    def prepare(X: Any) -> Batch:
        X, out = np.array(X, np.float64, order="C"), np.empty(len(X))
        return X.ctypes.data_as(double), out.ctypes.data_as(double), 0, len(X), X, out

    def score(batch: Batch) -> Any:
        compiled._c_entry_func(*batch[:4])  # the machine code lives as long as its model
        return batch[5]

    return Contender(version("lleaves"), prepare, score)


def tl2cgen(model: dict[str, Any]) -> Contender:
    """Compiled by gcc; its matrix is made outside the clock."""
    import tl2cgen
    import treelite

    library = Path(model["source"] + ".so")
    if not library.exists():
        if model["kind"] == "xgboost":
            forest = treelite.frontend.load_xgboost_model(scalar_base_score(model["source"]))
        else:
            forest = treelite.frontend.load_lightgbm_model(model["source"])
        tl2cgen.export_lib(forest, toolchain="gcc", libpath=library, params={"parallel_comp": 16})
    predictor = tl2cgen.Predictor(library, nthread=1)
    dtype = "float32" if model["kind"] == "xgboost" else "float64"
    prepare = lambda X: tl2cgen.DMatrix(np.array(X, dtype, order="C"), dtype=dtype)  # noqa: E731
    score = lambda X: predictor.predict(X, pred_margin=True)  # noqa: E731
    return Contender(tl2cgen.__version__, prepare, score)


def daal4py(model: dict[str, Any]) -> Contender:
    """Intel's oneDAL through its model builders, in float64 as LightGBM computes."""
    return daal4py_in(np.float64, model)


def daal4py_single(model: dict[str, Any]) -> Contender:
    """The same in float32, which it is faster in and XGBoost computes in."""
    return daal4py_in(np.float32, model)


def daal4py_in(dtype: type, model: dict[str, Any]) -> Contender:
    """OneDAL on rows of one type; it computes in the type of its input."""
    import daal4py

    if model["kind"] == "xgboost":
        import xgboost

        booster = xgboost.Booster(model_file=scalar_base_score(model["source"]))
    else:
        import lightgbm

        booster = lightgbm.Booster(model_file=model["source"])
    converted = daal4py.mb.convert_model(booster)

    def prepare(X: Any) -> Batch:
        return np.array(X, dtype, order="C")

    return Contender(version("daal4py"), prepare, converted.predict, about=np.dtype(dtype).name)


def scalar_base_score(source: str) -> str:
    """An XGBoost 3 model as versions before it read it: its base score no list of one."""
    content = json.loads(Path(source).read_bytes())
    parameters = content["learner"]["learner_model_param"]
    parameters["base_score"] = parameters["base_score"].strip("[]")
    path = Path(source).with_suffix(".older.json")
    path.write_text(json.dumps(content))
    return str(path)


FORESTS: dict[str, Callable[[dict[str, Any]], Contender]] = {
    "tandem": tandem,
    "tandem-columns": tandem_columns,
    "tandem-dict": tandem_dict,
    "lightgbm": lightgbm,
    "lightgbm-single": lightgbm_single,
    "xgboost": xgboost,
    "catboost": catboost,
    "sklearn": sklearn,
    "onnxruntime": onnxruntime,
    "lleaves": lleaves,
    "tl2cgen": tl2cgen,
    "daal4py": daal4py,
    "daal4py-single": daal4py_single,
}
