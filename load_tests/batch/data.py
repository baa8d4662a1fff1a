"""The batch benchmark's model, in each contender's format, and its Parquet files."""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

N_FEATURES = 23
FEATURES = tuple(f"Column_{index}" for index in range(N_FEATURES))
N_TREES = 100
N_LEAVES = 31
TRAINING_ROWS = 50_000
SEED = 20_130_101


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the contenders get.

    Attributes:
        bundle: The model, packed.
        onnx: The model as an ONNX graph.
        data: Directory of the Parquet files.
        rows: Rows in them.
    """

    bundle: Path
    onnx: Path
    data: Path
    rows: int


def make_inputs(root: Path, rows: int, n_files: int) -> Inputs:
    """Train the model and write the files, unless an earlier run left them."""
    root.mkdir(parents=True, exist_ok=True)
    bundle, onnx = make_model(root)
    data = root / f"data-{rows}-{n_files}"
    if not data.is_dir():
        write_files(data, rows, n_files)
    return Inputs(bundle, onnx, data, rows)


def repeated(inputs: Inputs, times: int) -> Inputs:
    """So many times the rows: each file under that many names, which takes no space."""
    data = inputs.data.with_name(f"{inputs.data.name}-x{times}")
    data.mkdir(exist_ok=True)
    for path in inputs.data.iterdir():
        for copy in range(times):
            link = data / f"{copy:03d}-{path.name}"
            if not link.exists():
                os.link(path, link)
    return Inputs(inputs.bundle, inputs.onnx, data, inputs.rows * times)


def make_model(root: Path) -> tuple[Path, Path]:
    """A LightGBM model of 100 trees with 31 leaves, as a bundle and as an ONNX graph."""
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    from engine.packing import pack

    text, onnx = root / "model.txt", root / "model.onnx"
    if not onnx.exists():
        X, y = training_rows()
        settings = {
            "objective": "binary",
            "num_leaves": N_LEAVES,
            "verbose": -1,
            "seed": SEED,
            "num_threads": 2,
        }
        model = lightgbm.train(settings, lightgbm.Dataset(X, y), N_TREES)
        model.save_model(text)
        graph = convert_lightgbm(
            model, initial_types=[("x", FloatTensorType([None, N_FEATURES]))], zipmap=False
        )
        onnx.write_bytes(graph.SerializeToString())
    sample = root / "sample.parquet"  # says that the features are float32
    pq.write_table(pa.table(dict(zip(FEATURES, training_rows()[0][:1000].T, strict=True))), sample)
    return pack(text, name="bench", out=root / "bundles", sample=sample), onnx


def training_rows() -> tuple[np.ndarray, np.ndarray]:
    """Rows whose label depends on some features and on chance."""
    random = np.random.default_rng(SEED)
    X = random.normal(size=(TRAINING_ROWS, N_FEATURES)).astype(np.float32)
    y = X[:, 0] + X[:, 1] * X[:, 2] + np.abs(X[:, 3]) + random.normal(size=TRAINING_ROWS) > 1
    return X, y.astype(int)


def write_files(data: Path, rows: int, n_files: int) -> None:
    """Files with an id and the features, as pyarrow writes them by default."""
    unfinished = data.with_name(f".{data.name}")
    unfinished.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(SEED)
    bounds = np.linspace(0, rows, n_files + 1).astype(int)
    for index, (start, stop) in enumerate(itertools.pairwise(bounds)):
        columns = {name: random.standard_normal(stop - start, np.float32) for name in FEATURES}
        table = pa.table({"id": np.arange(start, stop), **columns})
        pq.write_table(table, unfinished / f"part-{index:05d}.parquet")
    unfinished.rename(data)
