"""Decisions at thresholds and the best outputs of a row, asked for in a features file, at every door."""

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pytest

from engine.after import fits, labels_after, made_of_scores
from engine.bundle import After, read_bundle
from engine.errors import InvalidConfig
from engine.packing import pack
from engine.scorer import Scorer

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(400, 3))
ROWS = pa.table({f"Column_{place}": X[:, place] for place in range(3)})


def booster(n_classes: int) -> lightgbm.Booster:
    y = np.digitize(X[:, 0] + RANDOM.normal(size=400) / 2, np.linspace(-1, 1, n_classes - 1))
    several = {"objective": "multiclass", "num_class": n_classes}
    parameters = {"objective": "binary"} if n_classes == 2 else several
    return lightgbm.train({**parameters, "verbose": -1, "num_threads": 1}, lightgbm.Dataset(X, y), 5)


def packed(model: lightgbm.Booster, folder: Path, output: str) -> Scorer:
    (folder / "features.yaml").write_text(f"output: {output}")
    scorer = Scorer.load(pack(model, name="m", out=folder, features=folder / "features.yaml"))
    scorer.warm_up()
    return scorer


def test_a_threshold_adds_a_column_of_decisions(tmp_path: Path) -> None:
    model = booster(2)
    scorer = packed(model, tmp_path, "{name: late, thresholds: [0.85]}")
    table = scorer.score(ROWS)
    expected = model.predict(X)
    assert table.column_names == ["late_score", "late_reached"]
    assert 0 < sum(table.column("late_reached").to_pylist()) < len(X)
    assert table.column("late_reached").to_pylist() == (table.column(0).to_numpy() >= 0.85).tolist()
    np.testing.assert_allclose(table.column("late_score").to_numpy(), expected, rtol=1e-14)
    assert np.array_equal(scorer.score_rows(X), np.column_stack([c.to_numpy() for c in table.columns]))


def test_the_best_outputs_come_with_their_numbers_which_the_notes_explain(tmp_path: Path) -> None:
    model = booster(4)
    scorer = packed(model, tmp_path, "{labels: [a, b, c, d], top: 2}")
    names = ["score_top1", "score_top1_output", "score_top2", "score_top2_output"]
    table = scorer.score(ROWS)
    assert table.column_names == names
    ranked = np.argsort(-model.predict(X), axis=1, kind="stable")
    assert table.column("score_top1_output").to_pylist() == ranked[:, 0].tolist()
    assert table.column("score_top2_output").to_pylist() == ranked[:, 1].tolist()
    notes = scorer.manifest.provenance.notes
    assert any("0 a, 1 b, 2 c, 3 d" in note for note in notes)
    assert scorer.score_rows(X[3:4]).tolist() == [[column[3].as_py() for column in table.columns]]


def test_a_bundle_without_either_says_nothing_of_them(tmp_path: Path) -> None:
    path = pack(booster(2), name="m", out=tmp_path)
    assert b'"after"' not in (path / "bundle.json").read_bytes()
    assert not read_bundle(path).manifest.after


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("{thresholds: [0.1, 0.2]}", "has 1 outputs, got 2 thresholds"),
        ("{top: 1}", "expected top from 1 to the model's 1 outputs, got 1"),
        ("{thresholds: [0.1], top: 1}", "got both"),
    ],
)
def test_what_does_not_fit_the_outputs_is_refused(output: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        packed(booster(2), tmp_path, output)


def test_a_score_that_is_no_number_reaches_nothing_and_comes_last() -> None:
    scores = np.array([[0.5, np.nan, 0.7]])
    assert made_of_scores(After((0.5, 0.1, 0.8)), scores)[0, 3:].tolist() == [1.0, 0.0, 0.0]
    assert made_of_scores(After(top=3), scores)[0].tolist()[1::2] == [2.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("after", "n_scores", "n_columns", "whether"),
    [
        (After(), 3, 3, True),
        (After((0.1,)), 1, 2, True),
        (After((0.1,)), 2, 4, False),
        (After(top=2), 1, 4, False),
    ],
)
def test_columns_fit_scores(after: Any, n_scores: int, n_columns: int, whether: bool) -> None:
    assert fits(after, n_scores, n_columns) is whether


def test_several_thresholds_are_labelled_after_their_outputs() -> None:
    assert labels_after(After((0.1, 0.2)), ("a", "b")) == ("a", "b", "a_reached", "b_reached")
