"""``tandem serve --local`` for a benchmark: started on a free port, stopped when the block ends."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from engine.demo.commands import running, wait_until_ready
from load_tests.target import Target, parse_url

START_S = 120.0
_URL = re.compile(r"^(http://\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """A running engine: where it listens, its process, and what it writes."""

    target: Target
    process: psutil.Process
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.target.host, self.target.port

    def cpu_s(self) -> float:
        """Processor time used so far, with the kernel's on its behalf."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def local_engine(models: Mapping[str, Path], **settings: Any) -> Iterator[LocalEngine]:
    """An engine that serves bundles by name.

    Args:
        models: Bundles, by the name they are served under.
        settings: Keys of the config's ``serve`` section.

    Raises:
        Failed: It did not start.
    """
    config = {
        "models": {name: {"bundle": str(bundle.resolve())} for name, bundle in models.items()},
        "serve": {"port": 0, **settings},
    }
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as scratch:
        path, log = Path(scratch) / "bench.yaml", Path(scratch) / "engine.log"
        path.write_bytes(msgspec.yaml.encode(config))
        with running("serve", str(path), "--local", "--jobs-port", "0", log=log) as process:
            wait_until_ready(process, lambda: _url(log) != "", log, limit_s=START_S)
            yield LocalEngine(parse_url(_url(log)), psutil.Process(process.pid), log)


def _url(log: Path) -> str:
    match = _URL.search(log.read_text(errors="replace"))
    return match[1] if match else ""
