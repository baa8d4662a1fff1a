"""A small model, its data, and an engine's job service on a free port."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import Batch, Jobs
from engine.jobs.client import JobClient
from engine.jobs.job import JobRequest, Status
from engine.jobs.service import job_service
from tests.waiting import wait_until

N_ROWS = 30_000
Service = Callable[..., AbstractContextManager[JobClient]]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(5)
    X = random.normal(size=(2000, 3))
    parameters = {"objective": "binary", "verbose": -1, "num_leaves": 7, "num_threads": 1}
    booster = lightgbm.train(
        parameters, lightgbm.Dataset(X, X[:, 0] > 0, feature_name=["a", "b", "c"]), num_boost_round=5
    )
    return engine.pack(booster, name="tiny", out=tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(6)
    columns = {"id": np.arange(N_ROWS), **{name: random.normal(size=N_ROWS) for name in "abc"}}
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=200)
    return path


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """Starts an engine's job service; a second one goes on with the same queue."""

    @contextmanager
    def start(environment: Mapping[str, str] = MappingProxyType({}), **settings: int) -> Iterator[JobClient]:
        jobs = Jobs(port=0, directory=str(tmp_path / "jobs"), **settings)
        with job_service(jobs, "127.0.0.1", environment) as url:
            yield JobClient(url)

    return start


def until(client: JobClient, job: str, reached: Callable[[Status], bool]) -> Status:
    """The job's status once it is as asked."""
    found = wait_until(lambda: status if reached(status := client.status(job)) else None, within_s=120)
    assert found
    return found


def finished(status: Status) -> bool:
    return status.job.state not in ("queued", "running")


def slow(bundle: Path, rows: Path, output: Path) -> JobRequest:
    """A job of many units, so that it can be caught in the middle."""
    settings = Batch(runner="local", unit_rows=200, keep=("id",), threads=1)
    return JobRequest(str(bundle), (str(rows),), str(output), settings)


def ids(output: Path) -> list[int]:
    return sorted(pq.read_table(output, columns=["id"])["id"].to_pylist())
