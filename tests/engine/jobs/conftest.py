"""A small model, its data, and an engine's job service on a free port."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import Jobs
from engine.jobs.client import JobClient
from engine.jobs.service import job_service

N_ROWS = 30_000


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
def service(tmp_path: Path) -> Callable[..., AbstractContextManager[JobClient]]:
    """Starts an engine's job service; a second one goes on with the same queue."""

    @contextmanager
    def start(**settings: int) -> Iterator[JobClient]:
        jobs = Jobs(port=0, directory=str(tmp_path / "jobs"), **settings)
        with job_service(jobs, "127.0.0.1", {}) as url:
            yield JobClient(url)

    return start
