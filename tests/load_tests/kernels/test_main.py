from argparse import Namespace
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from load_tests.environments import PeerUnavailable, interpreter
from load_tests.kernels import __main__ as main
from load_tests.kernels.__main__ import LIBRARIES, compare
from load_tests.kernels.contender import Worker
from load_tests.kernels.forms import pack
from load_tests.kernels.models import RECIPES, Model
from load_tests.kernels.tables import Measurement, summary, table


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small LightGBM model with its rows, true margins and bundle."""
    folder = tmp_path_factory.mktemp("model")
    X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    parameters = {"verbosity": -1, "num_leaves": 7, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(X, X[:, 0] * X[:, 1]), num_boost_round=5)
    source = folder / "model.txt"
    booster.save_model(source)
    np.save(folder / "rows.npy", X)
    np.save(folder / "margins.npy", booster.predict(X))
    return Model(
        name="small",
        kind="lightgbm",
        source=str(source),
        bundle=str(pack("lightgbm", source)),
        onnx="",
        rows=str(folder / "rows.npy"),
        margins=str(folder / "margins.npy"),
    )


@pytest.mark.parametrize("library", ["tandem", "tandem-dict", "lightgbm-single"])
def test_a_contender_in_its_own_process_scores_right_and_is_timed(model: Model, library: str) -> None:
    with Worker(library, model, core=0) as worker:
        assert worker.n_differing(1) == 0
        assert 1 < worker.ns_per_row(1, seconds=0.001) < 1e9


def test_wrong_margins_are_not_timed(model: Model, tmp_path: Path) -> None:
    margins = np.load(model.margins)
    margins[17] = np.nextafter(margins[17], 1)
    np.save(tmp_path / "margins.npy", margins)
    wrong = Model(
        **{f: getattr(model, f) for f in model.__struct_fields__} | {"margins": str(tmp_path / "margins.npy")}
    )
    with (
        Worker("tandem", wrong, core=0) as worker,
        pytest.raises(PeerUnavailable, match="1 of 300 margins are wrong"),
    ):
        worker.n_differing(50)


def test_a_contender_that_cannot_load_says_why(model: Model) -> None:
    with pytest.raises(PeerUnavailable, match=r"ended with code 1: .*Error"):
        Worker("xgboost", model, core=0)


def test_a_contender_that_dies_is_left_out_and_the_others_are_measured(
    model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Mortal(Worker):
        def ns_per_row(self, n_rows: int, seconds: float) -> float:
            if self.library == "lightgbm" and n_rows == 2:
                self._process.kill()
            return super().ns_per_row(n_rows, seconds)

    monkeypatch.setattr(main, "Worker", Mortal)
    options = Namespace(core=0, quick=True, rounds=2, seconds=0.001)
    measured = compare(model, [1, 2, 4], ["tandem", "lightgbm"], options)
    assert [(one.library, one.n_rows) for one in measured] == [
        ("tandem", 1), ("lightgbm", 1), ("tandem", 2), ("tandem", 4),
    ]  # fmt: skip
    assert "small: without lightgbm: it ended with code -9" in capsys.readouterr().err


def test_a_peer_without_requirements_of_its_own_runs_in_our_environment(tmp_path: Path) -> None:
    assert interpreter("onnxruntime", cache=tmp_path).name.startswith("python")


def test_a_peer_that_is_not_set_up_is_left_out_of_a_quick_run(tmp_path: Path) -> None:
    with pytest.raises(PeerUnavailable, match="lleaves is not set up"):
        interpreter("lleaves", cache=tmp_path, may_install=False)


def test_a_table_compares_with_ours_and_names_the_best_other() -> None:
    def measured(library: str, n_rows: int, ns: float, ratio: float) -> Measurement:
        return Measurement("m", library, "1.0", "", n_rows, ns, ratio, (ns,))

    measurements = [
        measured("tandem", 1, 900.0, 1.0),
        measured("tandem", 64, 100.4, 1.0),
        measured("lleaves", 1, 4500.0, 5.0),
        measured("tl2cgen", 1, 9000.0, 10.0),
        measured("tl2cgen", 64, 2008.0, 20.0),
    ]
    lines = table("m", measurements).splitlines()
    assert lines[0] == "| m: ns per row | 1 rows | 64 rows |"
    assert lines[2] == "| tandem 1.0 | 900 | 100 |"
    assert lines[3] == "| lleaves 1.0 | 4,500 (5.0×) | – |"
    assert lines[-1] == "| **best other / ours** | **5.0×** | **20.0×** |"
    assert summary(measurements).splitlines()[-1] == "| m | 900, 5.0× lleaves | 100, 20.0× tl2cgen |"


def test_every_model_of_the_benchmark_has_contenders() -> None:
    assert {recipe.kind for recipe in RECIPES.values()} == set(LIBRARIES)
