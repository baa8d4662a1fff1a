"""The command itself, before any verb."""

import subprocess
import sys
from importlib import metadata

import pytest
from typer.testing import CliRunner

import engine
from engine.cli.app import app


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--version"], f"tandem {metadata.version('tandem-scoring')}\n"), ([], "Usage: ")],
)
def test_without_a_verb_it_tells_its_version_or_how_to_call_it(words, said):
    done = subprocess.run([sys.executable, "-m", "engine.cli", *words], capture_output=True, text=True)
    assert said in done.stdout
    assert done.stderr == ""


def test_serve_tells_where_it_listens_unless_told_otherwise():
    told = CliRunner().invoke(app, ["serve", "--help"]).stdout
    for default in ("127.0.0.1", "8080", "8000", "8090"):
        assert f"[default: ({default})]" in told


def test_an_argument_that_is_no_utf_8_is_refused_in_a_sentence():
    command = [sys.executable, "-m", "engine.cli", "inspect", b"caf\xe9"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: expected arguments in UTF-8, got b'caf\\xe9'\n"


def test_ctrl_c_while_its_modules_load_ends_it_without_a_traceback():
    interrupted = (
        "import os, signal, sys, types; app = types.ModuleType('app'); sys.modules['engine.cli.app'] = app; "
        "app.__getattr__ = lambda name: os.kill(os.getpid(), signal.SIGINT); "
        "from engine.cli.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_python_interface_is_found_by_completion():
    assert {"pack", "Scorer"} <= set(dir(engine))
