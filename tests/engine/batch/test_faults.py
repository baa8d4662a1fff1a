"""Faults other than a driver's death; all of them, with the table, are in ``faults``."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.batch import faults


@pytest.mark.parametrize("fault", faults.QUICK.values(), ids=faults.QUICK)
def test_a_fault_loses_nothing_repeats_nothing_and_leaves_nothing(
    tmp_path: Path, fault: Callable[[Path], str]
) -> None:
    if fault is faults.disk_full and not faults.may_mount():
        pytest.skip("this user may not mount a disk")
    assert fault(tmp_path) == ""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("fault", faults.ON_RAY.values(), ids=faults.ON_RAY)
def test_a_cluster_that_breaks_loses_nothing_repeats_nothing_and_leaves_nothing(
    tmp_path: Path, fault: Callable[[Path], str]
) -> None:
    assert fault(tmp_path) == ""
