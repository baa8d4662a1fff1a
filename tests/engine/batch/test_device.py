"""The device of a job: what its tasks ask a cluster for, and a device that is not there."""

from pathlib import Path

import msgspec
import pytest

from engine.batch.cluster import REMOTE, TASKS_PER_GPU, remote_options
from engine.batch.job import score_files
from engine.batch.plan import Options
from engine.batch.planning import make_plan
from engine.bundle import read_bundle, write_bundle
from engine.config import Batch
from engine.errors import Failed
from engine.scorer import Scorer
from kernels.gpu.device import gpu_is_available
from tests.engine.batch.conftest import expected, read, rows, write
from tests.engine.batch.deadly import numbers

without_a_gpu = pytest.mark.skipif(gpu_is_available(), reason="there is a GPU")


@pytest.mark.parametrize(
    ("device", "resources", "share"),
    [
        ("auto", {"CPU": 8.0, "GPU": 1.0}, 0.125),
        ("cuda", {"CPU": 8.0, "GPU": 2.0}, 0.25),
        ("cuda", {"CPU": 3.0, "GPU": 1.0}, 0.3333),
        ("auto", {"CPU": 4.0, "GPU": 8.0}, 1.0),
        ("auto", {"CPU": 224.0, "GPU": 8.0}, 1 / TASKS_PER_GPU),
    ],
)
def test_tasks_share_the_gpus_of_a_cluster(device, resources, share):
    assert remote_options(device, resources) == {**REMOTE, "num_gpus": share}


@pytest.mark.parametrize(
    ("device", "resources"),
    [("cpu", {"CPU": 8.0, "GPU": 1.0}), ("auto", {"CPU": 8.0}), ("cuda", {"CPU": 1.0})],
)
def test_other_tasks_ask_for_no_gpu(device, resources):
    assert remote_options(device, resources) == REMOTE


@without_a_gpu
def test_a_job_that_found_no_gpu_goes_on_as_the_same_job_without_one(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 50))
    arguments = (bundle, [str(data)], str(tmp_path / "out"))
    with pytest.raises(Failed, match="CUDA finds no GPU"):
        score_files(*arguments, settings=Batch(device="cuda", keep=("id",)))
    score_files(*arguments, settings=Batch(device="auto", keep=("id",)))
    assert read(tmp_path / "out").to_pydict() == {"id": list(range(50)), "score": expected(range(50))}


@without_a_gpu
def test_a_bundle_may_ask_for_a_gpu_and_an_option_overrule_it(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 50))
    plain = read_bundle(bundle)
    manifest = msgspec.structs.replace(plain.manifest, device="cuda")
    asking = str(write_bundle(manifest, plain.files, tmp_path / "asking"))
    assert make_plan(read_bundle(asking), asking, [str(data)], Options()).plan.device == "cuda"
    with pytest.raises(Failed, match="CUDA finds no GPU"):
        score_files(asking, [str(data)], str(tmp_path / "out"))
    score_files(asking, [str(data)], str(tmp_path / "out"), settings=Batch(device="cpu"))
    with pytest.raises(Failed, match="CUDA finds no GPU"):
        Scorer.load(asking)
    assert Scorer.load(asking, device="auto").score(rows(0, 2))["score"].to_pylist() == expected(range(2))


@without_a_gpu
def test_a_process_of_its_own_that_finds_no_gpu_says_so(
    deadly_bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", numbers(), row_group_rows=8)
    with pytest.raises(Failed, match="CUDA finds no GPU"):
        score_files(deadly_bundle, [str(data)], str(tmp_path / "out"), settings=Batch(device="cuda"))
