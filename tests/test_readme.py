"""The README tells the truth: its tree, its commands and its options exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from engine.cli.app import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [README, (ROOT / "load_tests" / "README.md").read_text()]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)


def tree_paths() -> list[str]:
    """Paths of the block whose first line is ``tandem/``; indentation nests, two spaces a level."""
    (tree,) = [block for block in blocks(README, "text") if block.startswith("tandem/\n")]
    parents: list[str] = []
    paths = []
    for line in tree.splitlines()[1:]:
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        parents[depth:] = [line.split()[0]]
        paths.append("".join(parents))
    return paths


def commands(program: str) -> list[list[str]]:
    """Commands of the pages that start so: lines of blocks, and those within the text."""
    lines = [
        line
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    texts = [re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE) for page in PAGES]
    lines += [code for text in texts for code in re.findall(r"`([^`]+)`", text)]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(program)]


@pytest.mark.parametrize("path", tree_paths())
def test_what_the_tree_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_tree_names_every_folder_at_the_top_and_in_the_engine() -> None:
    folders = [path for path in (*ROOT.iterdir(), *(ROOT / "engine").iterdir()) if path.is_dir()]
    code = [path for path in folders if path.name[0] not in "._" and any(path.rglob("*.py"))]
    named = {(ROOT / path).resolve() for path in tree_paths()}
    ours = [path for path in code if path.name not in {"build", "dist", "demo-output"}]
    assert not [str(path) for path in ours if path.resolve() not in named]


@pytest.mark.parametrize("command", commands("make "), ids=" ".join)
def test_a_make_command_is_a_target(command: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert command[1] in targets


@pytest.mark.parametrize("command", commands("tandem "), ids=" ".join)
def test_a_tandem_command_has_its_verb_and_options(command: list[str]) -> None:
    group = typer.main.get_command(app)
    verb = group.commands[command[1]]  # type: ignore[attr-defined]
    known = {option for parameter in verb.params for option in parameter.opts + parameter.secondary_opts}
    assert {word.split("=")[0] for word in command if word.startswith("--")} <= known


@pytest.mark.parametrize("command", commands("python -m "), ids=" ".join)
def test_a_module_exists_and_names_its_options(command: list[str]) -> None:
    path = ROOT / command[2].replace(".", "/")
    source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    assert not [word for word in command if word.startswith("--") and f'"{word}"' not in source]


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 200
