"""Two models whose capacity is searched for: a forest of microseconds a row, a dear network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.bundle import read_bundle
from engine.packing import pack
from load_tests.networks import N_FEATURES, network, width_for
from load_tests.peers.model import NAME, shared_model

DEAR_BATCH_ROWS = 8
DEAR_BATCH_S = 0.004
"""What so many rows take in the dear network: five such batches fit a promise of 20 ms."""
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
    folder = folder / "dear-network"
    folder.mkdir(parents=True, exist_ok=True)
    bundle = next((folder / "bundles").glob(f"{NAME}@*"), None)
    if bundle is None:
        wide = network(width_for(DEAR_BATCH_S, DEAR_BATCH_ROWS))
        bundle = pack(wide, name=NAME, out=folder / "bundles")
    rows = np.random.default_rng(SEED).standard_normal((N_ROWS, N_FEATURES), dtype=np.float32)
    return _with_sample(bundle, folder / "rows.parquet", rows)


MODELS: dict[str, Callable[[Path], Measurable]] = {"cheap": cheap, "dear": dear}


def _with_sample(bundle: Path, path: Path, rows: np.ndarray) -> Measurable:
    names = [feature.name for feature in read_bundle(bundle).manifest.schema.features]
    pq.write_table(pa.table(dict(zip(names, rows.T, strict=True))), path)
    return Measurable(bundle, path)
