"""What a soak serves, sends and scores: two revisions of a model of late flights, and Parquet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl
import pyarrow as pa

from engine.demo.flights import CATEGORIES, FEATURES, LABEL, flights, write_parts
from engine.packing import pack
from load_tests.payloads.wire import WIRES, Request, Wire, encode, raw

MODEL = "late"
TRAINING_ROWS = 40_000
N_TREES = 100
SEED = 20131101
SIZES = (1, 32)
KINDS = tuple(f"{wire} × {n_rows}" for wire in WIRES for n_rows in SIZES)
REQUESTS_PER_KIND = 16


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything made before the engine starts.

    Attributes:
        bundles: Two revisions of the model, whose scores differ.
        data: Directory of Parquet files for batch jobs, keyed by ``flight_id``.
        rows: Rows for requests, the features as columns.
    """

    bundles: tuple[Path, Path]
    data: Path
    rows: pa.Table


def make_inputs(folder: Path, batch_rows: int) -> Inputs:
    """Train, pack and write into a folder.

    Args:
        folder: Where to.
        batch_rows: Rows that a batch job scores; as many as there are flights at most.
    """
    table = flights()
    models = _train(table.head(TRAINING_ROWS), folder)
    bundles = [pack(model, name=MODEL, out=folder / "bundles") for model in models]
    data = write_parts(table.head(batch_rows).drop(LABEL), folder / "data", n_parts=4)
    rows = table.tail(max(SIZES) * REQUESTS_PER_KIND).select(FEATURES).to_arrow()
    return Inputs((bundles[0], bundles[1]), data, rows)


def _train(table: pl.DataFrame, folder: Path) -> list[Path]:
    import lightgbm

    frame = table.select(FEATURES).to_pandas().astype(dict.fromkeys(CATEGORIES, "category"))
    label = table[LABEL].to_numpy()
    settings = {"objective": "binary", "num_leaves": 31, "seed": SEED, "num_threads": 1, "verbosity": -1}
    booster = lightgbm.train(settings, lightgbm.Dataset(frame, label=label), num_boost_round=N_TREES)
    paths = [folder / "early.txt", folder / "late.txt"]
    for path, n_trees in zip(paths, (N_TREES - 10, N_TREES), strict=True):
        booster.save_model(path, num_iteration=n_trees)
    return paths


class Payload(NamedTuple):
    """A request to send.

    Attributes:
        kind: Index of its kind.
        wire: Its format.
        rows: First row and number of the rows that it asks for, which other wires ask for as well.
        content: The message of a gRPC call, or a whole HTTP request.
    """

    kind: int
    wire: Wire
    rows: tuple[int, int]
    content: bytes

    @property
    def lane(self) -> Literal["http", "grpc"]:
        """What it is sent over."""
        return "grpc" if self.wire == "grpc" else "http"


def payloads(rows: pa.Table, host: str, port: int) -> list[Payload]:
    """The same rows in each wire format, the kinds in turn; ``port`` is that of HTTP."""
    kinds = [(wire, n_rows) for wire in WIRES for n_rows in SIZES]
    encoded = [encode(wire, MODEL, rows, n_rows)[:REQUESTS_PER_KIND] for wire, n_rows in kinds]
    return [
        Payload(kind, kinds[kind][0], (turn * request.n_rows, request.n_rows), _content(request, host, port))
        for turn, requests in enumerate(zip(*encoded, strict=True))
        for kind, request in enumerate(requests)
    ]


def _content(request: Request, host: str, port: int) -> bytes:
    return raw(request, host, port) if request.path.startswith("/") else request.body
