"""A batch job beside the load: submitted to the engine, awaited, and its output read back whole."""

import asyncio
import time
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from engine.config import Batch
from engine.demo.flights import FLIGHT_KEY
from engine.errors import TandemError
from engine.jobs.client import JobClient
from engine.jobs.job import UNFINISHED, JobRequest
from engine.scorer import Scorer
from load_tests.soak.inputs import Inputs

LIMIT_S = 600.0


class JobRun(msgspec.Struct, frozen=True):
    """A batch job of a soak.

    Attributes:
        began_s: When it was submitted, in seconds since the run began.
        ended_s: When it ended.
        rows: Rows of its input.
        output: Directory of its scores.
        fault: What is wrong with it; empty when its output is complete.
    """

    began_s: float
    ended_s: float
    rows: int
    output: str
    fault: str


async def run_job(url: str, inputs: Inputs, output: Path, *, on_ray: bool, started: float) -> JobRun:
    """Score the soak's Parquet as a job of the engine; an error becomes the run's fault."""
    began_s = time.monotonic() - started
    request = JobRequest(
        bundle=str(inputs.bundles[0].resolve()),
        inputs=(str(inputs.data.resolve()),),
        output=str(output.resolve()),
        settings=Batch(keep=(FLIGHT_KEY,), runner="ray" if on_ray else "auto", unit_rows=65_536),
    )
    try:
        fault = await _to_its_end(JobClient(url), request)
    except TandemError as error:
        fault = str(error)
    return JobRun(
        began_s, time.monotonic() - started, ds.dataset(inputs.data).count_rows(), str(output), fault
    )


def verified(job: JobRun, inputs: Inputs) -> JobRun:
    """A job whose output has been read back; not while requests are timed, it keeps the processor busy."""
    return job if job.fault else msgspec.structs.replace(job, fault=fault_of(inputs, Path(job.output)))


async def _to_its_end(client: JobClient, request: JobRequest) -> str:
    job = await asyncio.to_thread(client.submit, request)
    until = time.monotonic() + LIMIT_S
    while job.state in UNFINISHED:
        if time.monotonic() > until:
            return f"expected its end within {LIMIT_S:.0f} s, it is still {job.state}"
        await asyncio.sleep(0.5)
        job = (await asyncio.to_thread(client.status, job.id)).job
    return "" if job.state == "done" else f"{job.state}: {job.message}"


def fault_of(inputs: Inputs, output: Path) -> str:
    """What is wrong with a job's output: a row missing, there twice, or with another score; else empty."""
    scorer = Scorer.load(inputs.bundles[0])
    score = scorer.schema.output.name
    table = pq.read_table(inputs.data)
    expected = scorer.score(table).column(score).to_numpy()
    found = ds.dataset(output, format="parquet").to_table().sort_by(FLIGHT_KEY)
    keys, found_keys = np.sort(table.column(FLIGHT_KEY).to_numpy()), found.column(FLIGHT_KEY).to_numpy()
    if not np.array_equal(keys, found_keys):
        return f"expected {len(keys):,} rows, each once, got {len(found_keys):,} of {len(set(found_keys)):,}"
    by_key = expected[np.argsort(table.column(FLIGHT_KEY).to_numpy())]
    n_off = int((found.column(score).to_numpy() != by_key).sum())
    return f"{n_off:,} scores are not those of the model" if n_off else ""
