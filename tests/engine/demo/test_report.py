"""The page says what was found, and stands alone."""

import re
from pathlib import Path

import numpy as np
import pytest
import typer

from engine.cli.app import app
from engine.demo.outcome import BatchScores, Lane, Outcome
from engine.demo.report import COMMANDS, print_outcome, write_report
from load_tests.results.recording import Recording
from load_tests.results.result import Load, LoadResult, summarise


def load_result() -> LoadResult:
    recording = Recording()
    for request in range(200):
        recording.add(request / 100, 0.001 + request / 1e5, 200)
    load = Load("http://127.0.0.1:8080", "late", "rows", "locust", 2.0, 1, 16)
    return summarise(load, recording)


def outcome(*, n_differing: int = 0) -> Outcome:
    chance = np.random.default_rng(7)
    scores = chance.uniform(size=1000)
    batch = BatchScores(scores, chance.uniform(size=1000) < scores, 2.0)
    lanes = (Lane("direct", 1000, n_differing, 50_000.0), Lane("ingress", 500, 0, 20_000.0))
    return Outcome(9000, 1.5, Path("bundles/late@0123"), batch, 12.0, lanes, load_result(), 60.0)


def page(tmp_path: Path, shown: Outcome) -> str:
    return write_report(shown, tmp_path / "report.html", Path("request.json"), Path("flights")).read_text()


def test_equal_bits_are_the_headline(tmp_path: Path) -> None:
    text = page(tmp_path, outcome())
    assert "not one bit differs" in text
    assert "of 1,500 scores differ in any bit" in text


def test_differing_bits_are_the_headline_too(tmp_path: Path) -> None:
    assert "3 scores differ between batch and online" in page(tmp_path, outcome(n_differing=3))


def test_the_page_asks_the_network_for_nothing(tmp_path: Path) -> None:
    text = page(tmp_path, outcome())
    loaded = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(https?:|//|[\w./-]+\.(?:css|js|png))""", text)
    assert loaded == []
    assert text.count("<svg") == 6, "the widest is there for narrow windows too"


def test_the_page_follows_light_and_dark(tmp_path: Path) -> None:
    text = page(tmp_path, outcome())
    assert "prefers-color-scheme: dark" in text
    assert not re.findall(r"#0102\d\d", text), "a placeholder colour was left in a figure"


def test_the_terminal_shows_the_same_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    print_outcome(outcome(), Path("report.html"))
    text = capsys.readouterr().out
    assert re.search(r"differing scores\s+0\s+of 1,500", text)
    assert re.search(r"load\s+100 requests/s", text)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("tandem ")])
def test_a_command_to_try_next_has_its_verb_and_options(line: str) -> None:
    words = line.split()
    verb = typer.main.get_command(app).commands[words[1]]
    known = {option for parameter in verb.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
