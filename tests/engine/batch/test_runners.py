"""Which runner a job gets."""

import pytest

from engine.batch.runners import SECONDS_WORTH_A_CLUSTER, runner_for
from engine.config import Batch


@pytest.mark.parametrize(
    ("address", "seconds", "runner"),
    [
        ("", 10 * SECONDS_WORTH_A_CLUSTER, "local"),
        ("10.0.0.1:6379", SECONDS_WORTH_A_CLUSTER, "ray"),
        ("10.0.0.1:6379", 0.9 * SECONDS_WORTH_A_CLUSTER, "local"),
    ],
)
def test_a_cluster_that_runs_already_gets_jobs_that_take_long_here(
    monkeypatch: pytest.MonkeyPatch, address: str, seconds: float, runner: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert runner_for(Batch(), lambda: seconds) == runner


@pytest.mark.parametrize("runner", ["local", "ray"])
def test_a_runner_that_was_asked_for_needs_no_estimate(runner: str) -> None:
    def estimate() -> float:
        raise AssertionError("it is not needed")

    assert runner_for(Batch(runner=runner), estimate) == runner  # type: ignore[arg-type]
