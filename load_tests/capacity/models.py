"""Two models whose capacity is searched for: a forest of microseconds a row, a dear network."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.bundle import read_bundle
from engine.packing import pack
from load_tests.peers.model import NAME, shared_model

N_FEATURES = 23
WIDTH = 4_600
"""Neurons in each of two hidden layers: 42 million multiplications and additions a row."""
N_ROWS = 2_000
SEED = 11


@dataclass(frozen=True, slots=True)
class Measurable:
    """A model to serve and rows to send to it.

    Attributes:
        bundle: Its bundle.
        sample: Parquet with its features as columns.
    """

    bundle: Path
    sample: Path


def cheap(folder: Path) -> Measurable:
    """Late flights, LightGBM, 100 trees of 31 leaves: the cost of a request is HTTP and JSON."""
    model = shared_model(folder / "model")
    return _with_sample(model.bundle, folder / "model" / "rows.parquet", model.rows[:N_ROWS])


def dear(folder: Path) -> Measurable:
    """A dense ONNX network: the cost of a request is the model."""
    folder = folder / "dear"
    folder.mkdir(parents=True, exist_ok=True)
    bundle = next((folder / "bundles").glob(f"{NAME}@*"), None)
    if bundle is None:
        (folder / "network.onnx").write_bytes(_network())
        bundle = pack(folder / "network.onnx", name=NAME, out=folder / "bundles")
    rows = np.random.default_rng(SEED).standard_normal((N_ROWS, N_FEATURES), dtype=np.float32)
    return _with_sample(bundle, folder / "rows.parquet", rows)


MODELS: dict[str, Callable[[Path], Measurable]] = {"cheap": cheap, "dear": dear}


def _with_sample(bundle: Path, path: Path, rows: np.ndarray) -> Measurable:
    names = [feature.name for feature in read_bundle(bundle).manifest.schema.features]
    pq.write_table(pa.table(dict(zip(names, rows.T, strict=True))), path)
    return Measurable(bundle, path)


def _network() -> bytes:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(SEED)
    widths, nodes, weights, name = (N_FEATURES, WIDTH, WIDTH, 1), [], [], "x"
    for layer, (n_in, n_out) in enumerate(pairwise(widths)):
        matrix = random.standard_normal((n_in, n_out), dtype=np.float32) / np.float32(np.sqrt(n_in))
        weights.append(numpy_helper.from_array(matrix, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{layer}"], [f"z{layer}"]))
        name = f"a{layer}"
        kind = "Relu" if n_out > 1 else "Sigmoid"
        nodes.append(helper.make_node(kind, [f"z{layer}"], [name]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, N_FEATURES])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1])]
    graph = helper.make_graph(nodes, "dear", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
