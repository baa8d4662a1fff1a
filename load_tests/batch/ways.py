"""The ways to score Parquet that the benchmark compares, each run in a process of its own.

``python -m load_tests.batch.ways WAY ONNX BUNDLE DATA OUTPUT`` prints the seconds it took as
JSON. Ways with a cluster or processes of their own start them first; ``total_s`` counts that,
``job_s`` does not.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from load_tests.batch.data import FEATURES

PROCESSES = 2
STOCK_BATCH_ROWS = 65_536


def stock_ray_data(onnx: str, bundle: str, data: str, output: str) -> dict[str, float]:  # noqa: ARG001
    """Ray Data as its documentation shows it: a callable class with ONNX Runtime, warm."""
    import ray
    import ray.data

    from engine.ray_compat import local_cluster_options

    started = time.perf_counter()
    ray.init(**local_cluster_options(), num_cpus=PROCESSES, object_store_memory=1 << 30)
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.range(1000).map_batches(lambda batch: batch).materialize()
    begun = time.perf_counter()
    (
        ray.data.read_parquet(data, columns=["id", *FEATURES])
        .map_batches(
            OnnxBatches, fn_constructor_args=(onnx,), batch_size=STOCK_BATCH_ROWS, concurrency=1, num_cpus=1
        )
        .write_parquet(output)
    )
    ended = time.perf_counter()
    ray.shutdown()
    return {"job_s": ended - begun, "cluster_s": begun - started}


class OnnxBatches:
    """ONNX Runtime on Ray Data's batches."""

    def __init__(self, onnx: str) -> None:
        self._session = session(onnx)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Ids and scores of a batch."""
        X = np.column_stack([batch[name] for name in FEATURES])
        return {"id": batch["id"], "score": self._session.run(None, {"x": X})[1][:, 1]}


def two_processes(onnx: str, bundle: str, data: str, output: str) -> dict[str, float]:  # noqa: ARG001
    """The hand-written way: files shared out to processes, pyarrow and ONNX Runtime in each."""
    return _shared_out(score_file, data, output, onnx)


def two_processes_lightgbm(onnx: str, bundle: str, data: str, output: str) -> dict[str, float]:  # noqa: ARG001
    """The same with LightGBM itself, one thread in each process."""
    return _shared_out(score_file_lightgbm, data, output, str(Path(onnx).with_suffix(".txt")))


def polars_streaming(onnx: str, bundle: str, data: str, output: str) -> dict[str, float]:  # noqa: ARG001
    """Polars' streaming engine from scan to sink, ONNX Runtime in ``map_batches``."""
    import polars as pl

    begun = time.perf_counter()
    Path(output).mkdir(parents=True)
    model = session(onnx)

    def score(batch: pl.DataFrame) -> pl.DataFrame:
        # float32 columns of one frame are a column-major matrix; ONNX Runtime copies it once.
        scores = model.run(None, {"x": batch.select(FEATURES).to_numpy()})[1][:, 1]
        return batch.select("id", pl.Series("score", scores))

    schema = {"id": pl.Int64, "score": pl.Float32}
    (
        pl.scan_parquet(f"{data}/*.parquet")
        .select("id", *FEATURES)
        .map_batches(score, streamable=True, schema=schema)
        .sink_parquet(Path(output, "scores.parquet"), engine="streaming")
    )
    return {"job_s": time.perf_counter() - begun}


def read_and_write(onnx: str, bundle: str, data: str, output: str) -> dict[str, float]:  # noqa: ARG001
    """The same without a model: what the disk and Parquet alone take."""
    return _shared_out(copy_file, data, output, "")


def _shared_out(
    function: Callable[[tuple[str, str, str]], None], data: str, output: str, onnx: str
) -> dict[str, float]:
    begun = time.perf_counter()
    Path(output).mkdir(parents=True)
    jobs = [(str(path), str(Path(output, path.name)), onnx) for path in sorted(Path(data).iterdir())]
    with get_context("spawn").Pool(PROCESSES) as pool:
        pool.map(function, jobs, chunksize=1)
    return {"job_s": time.perf_counter() - begun}


def score_file(job: tuple[str, str, str]) -> None:
    """Score one file, row group by row group."""
    source, target, onnx = job
    model = session(onnx)
    _each_group(source, target, lambda table: model.run(None, {"x": _matrix(table)})[1][:, 1])


def score_file_lightgbm(job: tuple[str, str, str]) -> None:
    """Score one file with LightGBM, row group by row group."""
    import lightgbm

    source, target, text = job
    booster = lightgbm.Booster(model_file=text)
    _each_group(source, target, lambda table: booster.predict(_matrix(table), num_threads=1))


def copy_file(job: tuple[str, str, str]) -> None:
    """Read all columns of one file and write its ids and one feature as if it were the score."""
    source, target, _ = job
    _each_group(source, target, lambda table: table.column(FEATURES[0]))


def _each_group(source: str, target: str, score: Callable[[pa.Table], Any]) -> None:
    schema = pa.schema([("id", pa.int64()), ("score", pa.float32())])
    with pq.ParquetFile(source) as file, pq.ParquetWriter(target, schema) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["id", *FEATURES], use_threads=False)
            writer.write_table(pa.table([table.column("id"), score(table)], schema=schema))


def _matrix(table: pa.Table) -> np.ndarray:
    return np.column_stack([table.column(name).to_numpy() for name in FEATURES])


def session(onnx: str) -> Any:
    """An ONNX Runtime session with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def ours_on_warm_ray(onnx: str, bundle: str, data: str, output: str) -> dict[str, float]:  # noqa: ARG001
    """``score_files`` on a Ray cluster that has run a job before; the first job's time is told too."""
    from engine import ray_compat

    ray_compat.prepare()
    import ray

    from engine.batch.job import score_files
    from engine.config import Batch

    settings = Batch(runner="ray", keep=("id",))
    started = time.perf_counter()
    ray.init(**ray_compat.local_cluster_options(), num_cpus=PROCESSES, object_store_memory=256 << 20)
    ready = time.perf_counter()
    score_files(bundle, [data], output, settings=settings)
    cold = time.perf_counter()
    shutil.rmtree(output)
    begun = time.perf_counter()
    score_files(bundle, [data], output, settings=settings)
    ended = time.perf_counter()
    ray.shutdown()
    return {"job_s": ended - begun, "cluster_s": ready - started, "first_job_s": cold - ready}


WAYS: dict[str, Callable[[str, str, str, str], dict[str, float]]] = {
    "stock-ray-data": stock_ray_data,
    "two-processes-onnx": two_processes,
    "two-processes-lightgbm": two_processes_lightgbm,
    "polars-streaming": polars_streaming,
    "read-and-write": read_and_write,
    "ours-ray-warm": ours_on_warm_ray,
}


def main() -> None:
    """Run one way and print its seconds."""
    way, onnx, bundle, data, output = sys.argv[1:]
    shutil.rmtree(output, ignore_errors=True)
    print(json.dumps(WAYS[way](onnx, bundle, data, output)))


if __name__ == "__main__":
    main()
