"""The model that every server serves: late flights, LightGBM, 100 trees of 31 leaves, 23 numbers a row."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.demo.flights import CATEGORIES, FEATURES, LABEL, flights, split
from engine.packing import pack

NAME = "late"
N_ROWS = 5_000
SEED = 20131101
MISSING = -1.0
"""Stands for a missing value, because JSON cannot carry NaN to every server."""


@dataclass(frozen=True, slots=True, eq=False)
class SharedModel:
    """The model in every form a server wants, and what it must answer.

    Attributes:
        folder: Holds ``model.txt`` (LightGBM) and ``model.onnx``.
        bundle: The same, packed.
        rows: float32[N_ROWS, 23], to be sent in turn.
        scores: float64[N_ROWS], LightGBM's own answers.
    """

    folder: Path
    bundle: Path
    rows: NDArray[np.float32]
    scores: NDArray[np.float64]


def shared_model(folder: Path) -> SharedModel:
    """The model, trained and converted on the first call and read from the folder afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "scores.npy").exists():
        _make(folder)
    bundle = next((folder / "bundles").glob(f"{NAME}@*"))
    return SharedModel(folder, bundle, np.load(folder / "rows.npy"), np.load(folder / "scores.npy"))


def _make(folder: Path) -> None:
    import lightgbm

    known, held_out = split(_numbers(flights()))
    data = lightgbm.Dataset(_matrix(known), label=known[LABEL].to_numpy())
    parameters = {"objective": "binary", "num_leaves": 31, "seed": SEED, "num_threads": 1, "verbosity": -1}
    booster = lightgbm.train(parameters, data, num_boost_round=100)
    booster.save_model(folder / "model.txt")
    (folder / "model.onnx").write_bytes(_onnx(booster))
    pack(folder / "model.txt", name=NAME, out=folder / "bundles")
    rows = _matrix(held_out.sample(N_ROWS, seed=SEED))
    np.save(folder / "rows.npy", rows)
    np.save(folder / "scores.npy", booster.predict(rows))


def _numbers(table: pl.DataFrame) -> pl.DataFrame:
    """All features as float32: strings as their rank, missing values as ``MISSING``."""
    ranks = [pl.col(name).rank("dense") for name in CATEGORIES]
    features = pl.col(FEATURES).cast(pl.Float32).fill_null(MISSING)
    return table.with_columns(ranks).with_columns(features)


def _matrix(table: pl.DataFrame) -> NDArray[np.float32]:
    return np.ascontiguousarray(table.select(FEATURES).to_numpy())


def _onnx(booster: object) -> bytes:
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    shape = [("input", FloatTensorType([None, len(FEATURES)]))]
    graph = convert_lightgbm(booster, initial_types=shape, zipmap=False, target_opset=15)
    content: bytes = graph.SerializeToString()
    return content
