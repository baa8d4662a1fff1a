"""Environments of other people's software: made on demand from pinned requirements, kept in a cache folder.

A peer with a file ``load_tests/peers/<name>.txt`` gets an environment of its own; any other runs
in ours.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers"
CACHE = Path(".cache")


class PeerUnavailable(Exception):
    """A peer could not be set up here; the benchmark goes on without it."""


def interpreter(peer: str, *, cache: Path = CACHE, may_install: bool = True) -> Path:
    """The Python that runs ``peer``; its environment is made first if it is not there.

    What follows a dash in a peer's name is a way to use it, in the same environment.

    Raises:
        PeerUnavailable: It is not there and ``may_install`` is false, or pip failed.
    """
    requirements = REQUIREMENTS / f"{peer.split('-')[0]}.txt"
    if not requirements.exists():
        return Path(sys.executable)
    folder = (cache / "peers" / f"{requirements.stem}-{fingerprint(requirements)}").absolute()
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        if not may_install:
            raise PeerUnavailable(f"{peer} is not set up; a run without --quick installs it")
        install(requirements, folder)
    return python


def fingerprint(requirements: Path) -> str:
    """Twelve digits that change with the requirements or the Python version."""
    return hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]


def install(requirements: Path, folder: Path) -> None:
    """Make an environment; what is left of an interrupted attempt is removed first."""
    shutil.rmtree(folder, ignore_errors=True)
    print(f"setting up {requirements.stem} in {folder}", file=sys.stderr)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "install", "--requirement", str(requirements)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerUnavailable(f"{requirements.stem} could not be installed: {done.stderr.strip()[-300:]}")
    (folder / "complete").touch()
