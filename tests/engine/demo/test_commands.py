"""Commands run as a person would run them, and none is left behind."""

from pathlib import Path

import pytest

from engine.demo.commands import running, tandem, wait_until_ready
from engine.errors import Failed


def test_a_verb_that_fails_ends_the_demonstration(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"expected success of tandem inspect .*nothing, got exit code 2"):
        tandem("inspect", str(tmp_path / "nothing"))


def test_a_process_is_gone_after_its_block(tmp_path: Path) -> None:
    with running("--help", log=tmp_path / "log") as process:
        pass
    assert process.poll() is not None


def test_an_engine_that_ends_before_it_is_ready_is_quoted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running("inspect", str(tmp_path / "nothing"), log=log) as process:
        process.wait(60)
        with pytest.raises(Failed, match=r"did not; its last words:\n.*nothing"):
            wait_until_ready(process, lambda: False, log, limit_s=60)
