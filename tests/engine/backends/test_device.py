"""Devices on a machine without a GPU; the twins themselves are tested in tests/kernels/gpu/twins.py."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import engine
from engine import Scorer
from engine.errors import Failed
from kernels.gpu.device import gpu_is_available

IN_THE_SIMULATOR = """
import sys
import numpy as np
from engine import Scorer
cpu, gpu = (Scorer.load(sys.argv[1], device=device) for device in ("cpu", "cuda"))
assert "CUDA" in gpu.kernel and "CUDA" not in cpu.kernel, (cpu.kernel, gpu.kernel)
X = np.random.default_rng(1).normal(size=(40, 2)).astype(cpu.schema.dtype)
assert (cpu.score_rows(X) == gpu.score_rows(X)).all()
print("equal")
"""


@pytest.fixture(scope="module", params=["forest", "linear"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression

    random = np.random.default_rng(0)
    X, y = random.normal(size=(200, 2)), random.normal(size=200)
    forest = RandomForestRegressor(n_estimators=10, max_depth=4, random_state=0)
    model = forest if request.param == "forest" else LinearRegression()
    return engine.pack(model.fit(X, y), name="small", out=tmp_path_factory.mktemp("device"))


@pytest.mark.skipif(gpu_is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused_with_the_way_out(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_CACHE_DIR", str(tmp_path))  # the second load keeps the first one's choice
    assert Scorer.load(bundle, device="auto").kernel == Scorer.load(bundle).kernel
    with pytest.raises(Failed, match=r"install tandem-scoring\[gpu\]"):
        Scorer.load(bundle, device="cuda")


def test_in_the_simulator_both_devices_give_the_same_scores(bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_SIMULATOR, str(bundle)],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.stdout == "equal\n", done.stderr
