"""Processes killed at points spread over a job; ``kill_matrix`` and the modules beside it have all points."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import ray

from engine.batch.local_output import exchange
from tests.engine.batch import kill_matrix


@pytest.mark.parametrize("mode", get_args(kill_matrix.Mode))
def test_a_killed_driver_loses_nothing_repeats_nothing_and_leaves_nothing(
    tmp_path: Path, mode: kill_matrix.Mode
) -> None:
    # In a process of its own, for it forks.
    command = [sys.executable, "-m", "tests.engine.batch.kill_matrix", "--every", "6", "--mode", mode]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 wrong results" in done.stdout


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(("who", "every"), [("worker", "8"), ("driver", "9")])
def test_a_job_on_ray_loses_nothing_with_a_process_of_it(who: str, every: str) -> None:
    command = [sys.executable, "-m", "tests.engine.batch.kill_matrix_cluster", "--every", every, "--who", who]
    environment = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"killed at [23] operations, 0 wrong results", done.stdout), done.stdout


def test_two_directories_are_exchanged_in_one_step(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(tmp_path / "a", tmp_path / "b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["a"]
