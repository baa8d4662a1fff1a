"""Jobs on a real Ray cluster, the one of this test run."""

import json
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
import pytest

from engine.batch.job import score_files
from engine.config import Batch
from engine.errors import Failed, InvalidTable
from kernels.gpu.device import gpu_is_available
from tests.engine.batch.conftest import begin, expected, hidden, read, rows, write
from tests.engine.batch.deadly import deadly, numbers
from tests.engine.batch.test_bad_rows import GOOD, spoilt
from tests.engine.batch.test_job import with_bad_amount

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
FUSED = "ray ReadUnits->MapBatches(score_block)->Write"


def settings(**changes: object) -> Batch:
    return Batch(runner="ray", keep=("id",), unit_rows=100, **changes)  # type: ignore[arg-type]


def test_a_job_on_ray_scores_every_row_once(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 450))
    write(data / "b.parquet", rows(450, 30))
    write(data / "c.parquet", rows(0, 0))
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings())
    assert read(tmp_path / "out").to_pydict() == {"id": list(range(480)), "score": expected(range(480))}
    assert result.record.n_units == len(result.manifest.parts) == 5


def test_read_score_and_write_are_one_operator_of_ray_data(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 100))
    write(data / "b.parquet", with_bad_amount(rows(100, 100)))
    with pytest.raises(InvalidTable, match="amount"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings())
    record = next(hidden(tmp_path / "out").glob("*/done/*/00000.json"))
    assert json.loads(record.read_text())["runner"] == FUSED


def test_a_job_that_shares_the_gpu_is_one_operator_too(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 200))
    write(data / "b.parquet", with_bad_amount(rows(200, 100)))
    with pytest.raises(InvalidTable, match="amount"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings(device="auto"))
    record = next(hidden(tmp_path / "out").glob("*/done/*/00000.json"))
    assert json.loads(record.read_text())["runner"] == FUSED


@pytest.mark.skipif(gpu_is_available(), reason="there is a GPU")
def test_a_worker_without_a_gpu_says_so(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 200))
    with pytest.raises(Failed, match="CUDA finds no GPU"):
        score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings(device="cuda"))


def test_bad_rows_are_quarantined_as_in_this_process(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", spoilt())
    for runner in ("ray", "local"):
        options = Batch(runner=runner, keep=("id",), unit_rows=100, on_bad_row="quarantine")
        score_files(bundle, [str(data)], str(tmp_path / runner), settings=options)
    assert read(tmp_path / "ray")["id"].to_pylist() == GOOD
    assert read(tmp_path / "ray").equals(read(tmp_path / "local"))
    aside = [pq.read_table(tmp_path / runner / "_quarantine") for runner in ("ray", "local")]
    assert aside[0].equals(aside[1])


def test_a_condition_that_leaves_nothing_of_a_unit_loses_nothing(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 300))
    options = settings(where="id >= 250")
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=options)
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(250, 300))
    assert (result.record.rows_in, result.record.rows_out) == (300, 50)


@pytest.mark.parametrize(("first", "second"), [("ray", "local"), ("local", "ray")])
def test_either_runner_resumes_the_job_of_the_other(
    bundle: str, data: Path, tmp_path: Path, first: Literal["ray", "local"], second: Literal["ray", "local"]
) -> None:
    write(data / "a.parquet", rows(0, 400))
    begin(bundle, data, tmp_path / "out", Batch(runner=first, keep=("id",), unit_rows=100), n_units=3)
    options = Batch(runner=second, keep=("id",), unit_rows=100)
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=options)
    assert result.resumed == 3
    assert read(tmp_path / "out").to_pydict() == {"id": list(range(400)), "score": expected(range(400))}


@deadly
@pytest.mark.slow
def test_a_row_that_kills_rays_workers_is_set_aside_and_the_rest_is_scored(
    deadly_bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", numbers(), row_group_rows=8)
    write(data / "b.parquet", numbers(6), row_group_rows=8)
    options = Batch(runner="ray", keep=("id",), unit_rows=8, on_bad_row="quarantine")
    result = score_files(deadly_bundle, [str(data)], str(tmp_path / "out"), settings=options)
    assert read(tmp_path / "out")["y"].to_pylist() == [100.0] * 15
    assert result.record.reasons == {"kills the process that scores it": 1}
