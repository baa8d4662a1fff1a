"""The live line on a real pseudo-terminal, and none elsewhere."""

import os
import sys
import termios
from pathlib import Path

import pytest

from load_tests.progress import show_live


def test_a_live_line_is_cut_to_the_terminal_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 40))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        show_live("a" * 60)
        show_live("")
        monkeypatch.undo()
        terminal.write("end")
        terminal.flush()
        seen = b""
        while not seen.endswith(b"end"):  # a terminal hands over what it has got so far
            seen += os.read(ours, 1000)
    os.close(ours)
    assert seen == b"\r" + b"a" * 39 + b"\x1b[K" + b"\r\x1b[K" + b"end"


def test_a_log_has_no_live_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "stderr", log)
        show_live("a line")
        monkeypatch.undo()
    assert (tmp_path / "log").read_text() == ""
