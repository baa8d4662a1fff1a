"""Whose model is it? Told by content, never by file name; no pickle is ever read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import ubjson

from engine.bundle import MANIFEST
from engine.errors import InvalidModel, UnsupportedModel
from engine.importers import catboost, lightgbm, onnx, sklearn, xgboost
from engine.importers.features import Options
from engine.importers.imported import Imported
from engine.importers.pipelines import import_pipeline, is_pipeline

Reader = Callable[[bytes, Options], Imported]
"""Reads the bytes of a model file."""
ObjectReader = Callable[[Any, Options], tuple[bytes, Imported]]
"""Reads a Python object; returns the bytes it was read through, if any, as well."""

READERS: dict[str, Reader] = {
    "lightgbm": lightgbm.import_text,
    "xgboost json": xgboost.import_json,
    "xgboost ubj": xgboost.import_ubj,
    "catboost": catboost.import_json,
    "onnx": onnx.import_graph,
}
OBJECT_READERS: dict[str, ObjectReader] = {
    "lightgbm": lightgbm.import_object,
    "xgboost": xgboost.import_object,
    "catboost": catboost.import_object,
    "onnx": onnx.import_object,
    "sklearn": sklearn.import_object,
}
PICKLE = (
    "a Python pickle, which is never read; load it where it was made and call engine.pack(model, name=, out=)"
)
DAMAGE = (
    ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError,
    ubjson.DecoderException,
)  # fmt: skip
"""What readers of untyped documents raise where something else stands than they expect."""
FOREIGN = {
    b"\x80": PICKLE,
    b"\x78\x9c": PICKLE,
    b"PK\x03\x04": "a zip archive; give the model in its library's own text, JSON or ONNX format",
    b"CBM1": "CatBoost's binary format; save it with save_model(path, format='json')",
    b"binf": "XGBoost's old binary format; load it in XGBoost and save it as .json or .ubj",
    b"bs64": "XGBoost's old binary format; load it in XGBoost and save it as .json or .ubj",
    b"PAR1": "a Parquet file, which is data and no model",
}
"""What people give for a model, by its first bytes, and the way out."""


def import_model(model: object, options: Options) -> tuple[bytes, Imported]:
    """Read a model file (by path) or a fitted object; raises ``InvalidModel`` when it is neither.

    Returns:
        The bytes of the file, empty where an object was read directly, and the model.
    """
    if isinstance(model, str | os.PathLike):
        source = _read(Path(model))
        return source, _import_file(source, Path(model), options)
    if is_pipeline(model):
        return import_pipeline(model, lambda last: import_model(last, options))
    if reader := OBJECT_READERS.get(_library(type(model))):
        return reader(model, options)
    name = type(model).__name__
    for parent in type(model).__mro__:
        if _library(parent) in OBJECT_READERS:
            raise UnsupportedModel(
                f"{name} is derived from {_library(parent)}'s {parent.__name__} and may predict otherwise;"
                " pack the library's own model within it"
            )
    raise InvalidModel(f"expected a model file's path or a model of {', '.join(OBJECT_READERS)}, got {name}")


def _library(kind: type) -> str:
    """The package that a class comes from."""
    return kind.__module__.partition(".")[0]


def _import_file(source: bytes, path: Path, options: Options) -> Imported:
    """Read a file; what its content makes importers stumble over is told as damage."""
    try:
        return READERS[_format(source, path)](source, options)
    except DAMAGE as error:
        raise InvalidModel(f"{path} is damaged or cut short: {type(error).__name__}: {error}") from error


def _read(path: Path) -> bytes:
    if path.is_dir():
        what = "a bundle already" if (path / MANIFEST).exists() else "a directory"
        raise InvalidModel(f"expected a model file, but {path} is {what}")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InvalidModel(f"expected a model file at {path}: {error.strerror}") from error
    if not source:
        raise InvalidModel(f"{path} is empty, expected a model file")
    return source


def _format(source: bytes, path: Path) -> str:
    for magic, what in FOREIGN.items():
        if source.startswith(magic):
            raise InvalidModel(f"{path} is {what}")
    if source.startswith((b"tree\n", b"tree\r\n")):
        return "lightgbm"
    if len(source) > 1 and source[0] == ord("{") and source[1] in b"LlIiU#$":
        return "xgboost ubj"
    if source.lstrip()[:1] == b"{":
        return _json_format(source, path)
    if onnx.is_graph(source):
        return "onnx"
    raise InvalidModel(
        f"{path} is no model: expected LightGBM text, XGBoost JSON or UBJ, CatBoost JSON or an ONNX graph"
    )


def _json_format(source: bytes, path: Path) -> str:
    try:
        keys = msgspec.json.decode(source, type=dict[str, msgspec.Raw]).keys()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidModel(f"{path} starts like JSON but is damaged or cut short: {error}") from error
    if "tree_info" in keys:
        raise UnsupportedModel(
            f"{path} is LightGBM's JSON dump, which loses digits; save it with save_model(path)"
        )
    if "learner" in keys:
        return "xgboost json"
    if "features_info" in keys:
        return "catboost"
    raise InvalidModel(
        f"{path} is JSON, but neither XGBoost's nor CatBoost's; its keys are {sorted(keys)[:8]}"
    )
