"""The command itself, before any verb."""

import subprocess
import sys
from importlib import metadata

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--version"], f"tandem {metadata.version('tandem-scoring')}\n"), ([], "Usage: ")],
)
def test_without_a_verb_it_tells_its_version_or_how_to_call_it(words, said):
    done = subprocess.run([sys.executable, "-m", "engine.cli.app", *words], capture_output=True, text=True)
    assert said in done.stdout
    assert done.stderr == ""
