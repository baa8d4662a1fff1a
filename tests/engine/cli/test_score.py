import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from engine.cli.app import app
from engine.errors import InvalidConfig, InvalidTable
from kernels.gpu.device import gpu_is_available
from tests.engine.batch.conftest import make_bundle, rows, write


@pytest.fixture(scope="module")
def fares(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_bundle(tmp_path_factory.mktemp("bundles"))


def test_the_command_scores_a_directory_and_says_so(fares: str, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", rows(0, 250))
    arguments = [
        "score",
        fares,
        "--input",
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
        "--keep",
        "id,carrier",
    ]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout == f"250 rows scored into {tmp_path / 'out'}\n"
    assert "250 of 250 rows (100 %)" in done.stderr
    assert pq.read_schema(next((tmp_path / "out").glob("*.parquet"))).names == ["id", "carrier", "score"]


def test_keep_may_be_called_columns(fares: str, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", rows(0, 10))
    places = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["score", fares, *places, "--columns", "carrier"], catch_exceptions=False)
    assert done.exit_code == 0
    assert pq.read_schema(next((tmp_path / "out").glob("*.parquet"))).names == ["carrier", "score"]


def test_a_second_call_says_that_nothing_was_left_to_do(fares: str, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", rows(0, 250))
    arguments = ["score", fares, "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    page = tmp_path / "page.html"
    done = CliRunner().invoke(app, [*arguments, "--report", str(page)], catch_exceptions=False)
    where = f"{tmp_path / 'out'} by an earlier run"
    assert (done.exit_code, done.stdout) == (0, f"250 rows scored into {where}; nothing was left to do\n")
    assert f"no page is written to {page}" in done.stderr
    assert not page.exists()


def test_texts_of_a_condition_without_quotes_are_explained(fares: str, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", rows(0, 250))
    arguments = ["score", fares, "-i", str(tmp_path / "in"), "-o", str(tmp_path), "--where", "carrier == UA"]
    with pytest.raises(
        InvalidTable, match=r"expected a column 'UA', got .*; in a condition, texts are in quotes"
    ):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_dry_run_prints_an_estimate(fares: str, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", rows(0, 250))
    arguments = ["score", fares, "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--dry-run"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.stdout.startswith("250 rows in 1 file of ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--on-bad-row", "ignore", "Invalid enum value 'ignore'; expected one of fail, null, quarantine"),
        ("--threads", "-1", "Expected `int` >= 0"),
    ],
)
def test_a_wrong_option_is_a_sentence(
    fares: str, tmp_path: Path, option: str, value: str, message: str
) -> None:
    arguments = ["score", fares, "-i", str(tmp_path), "-o", str(tmp_path / "out"), option, value]
    with pytest.raises(InvalidConfig, match=f"^{option}: {message}$"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_deliberate_error_leaves_with_its_code_and_without_a_traceback(fares: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engine.cli"]
    command += ["score", fares, "-i", str(tmp_path / "nothing"), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: expected Parquet files")
    assert "Traceback" not in done.stderr


def scored(bundle: str, folder: Path, output: str, device: str, **environment: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "engine.cli", "score", bundle]
    command += ["-i", str(folder / "in"), "-o", str(folder / output), "--keep", "id", "--device", device]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(gpu_is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_scores_on_the_cpu_and_cuda_is_refused_in_a_sentence(
    fares: str, tmp_path: Path
) -> None:
    write(tmp_path / "in" / "a.parquet", rows(0, 250))
    assert [scored(fares, tmp_path, device, device)[0] for device in ("cpu", "auto")] == [0, 0]
    assert pq.read_table(tmp_path / "auto").equals(pq.read_table(tmp_path / "cpu"))
    code, out, err = scored(fares, tmp_path, "cuda", "cuda")
    assert (code, out) == (5, "")
    assert err.splitlines()[-1].startswith("error: device cuda was asked for, but CUDA finds no GPU")
    assert "Traceback" not in err
    assert scored(fares, tmp_path, "cuda", "cpu")[0] == 0, "the job goes on without the GPU"


@pytest.mark.slow
def test_in_the_simulator_a_job_on_cuda_has_the_bits_of_the_cpu(fares: str, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", rows(0, 60))
    assert scored(fares, tmp_path, "cpu", "cpu")[0] == 0
    code, _, err = scored(fares, tmp_path, "cuda", "cuda", NUMBA_ENABLE_CUDASIM="1")
    assert code == 0, err
    assert pq.read_table(tmp_path / "cuda").equals(pq.read_table(tmp_path / "cpu"))
