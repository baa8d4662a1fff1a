"""A contender's process in the kernel benchmark, as its parent sees it."""

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np

from load_tests.environments import PeerUnavailable, interpreter
from load_tests.kernels.models import Model

WORKER = "load_tests.kernels.contenders.worker"
ROOT = Path(__file__).parents[2]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
EXACT = ("tandem", "tandem-columns", "tandem-dict", "tandem-folded", "sklearn-pipeline")
"""Those whose margins must have the very bits of the library that trained the model."""
TOLERANCE = 1e-5
"""How far a peer's margin may be off, in parts of the largest margin: float32 sums."""
MAX_DIFFERING = 1e-3
"""So many of a peer's rows may be further off: float32 inputs right at a threshold."""


class Ready(msgspec.Struct, frozen=True):
    """What a worker says once it has loaded the model."""

    version: str
    about: str
    most_rows: int


class Worker:
    """A contender's process. Use as a context manager."""

    def __init__(self, library: str, model: Model, core: int, *, may_install: bool = True) -> None:
        """Start the process and wait until it has loaded the model.

        Raises:
            PeerUnavailable: Its environment cannot be made, or it cannot load the model.
        """
        self.library = library
        self.model = model
        python = interpreter(library, may_install=may_install)
        spec = json.dumps(msgspec.to_builtins(model))
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed in stop
        self._process = subprocess.Popen(
            [str(python), "-m", WORKER, library, spec, str(core)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **dict.fromkeys(THREADS, "1")},
        )
        try:
            self.ready = msgspec.convert(self._answer(), Ready)
        except PeerUnavailable:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._process.wait()
        self._log.close()

    def n_differing(self, n_rows: int) -> int:
        """Score the first rows in batches of ``n_rows``, compare them with the truth and count those off.

        Raises:
            PeerUnavailable: More rows are off than such a contender may have.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "margins.npy"
            self._ask(do="score", n=n_rows, to=str(path))
            got = np.load(path)
        true = np.load(self.model.margins)
        got, true = got[: len(true)], true[: len(got)]
        exact = self.library in EXACT
        allowed = 0.0 if exact else TOLERANCE * np.abs(true).max()
        n_off = int((~(np.abs(got - true) <= allowed)).sum())
        if n_off > (0 if exact else MAX_DIFFERING * len(true)):
            worst = np.abs(got - true).max()
            raise PeerUnavailable(
                f"{n_off} of {len(true)} margins are wrong, by up to {worst:.3g}: not timed"
            )
        return n_off

    def ns_per_row(self, n_rows: int, seconds: float) -> float:
        """The mean time of a row in batches of ``n_rows``, over at least ``seconds``."""
        return float(self._ask(do="time", n=n_rows, seconds=seconds)["ns_per_row"])

    @property
    def exit_code(self) -> int | None:
        """Of its process; None while that lives."""
        return self._process.poll()

    def _ask(self, **command: Any) -> Any:
        if self._process.stdin is None:
            raise PeerUnavailable("it has no input")
        with contextlib.suppress(BrokenPipeError):  # it has ended, and is asked why
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._log.seek(0)
        said = [text.strip() for text in self._log.read().splitlines() if "Error" in text]
        raise PeerUnavailable(f"its process ended with code {code}: {' '.join(said[-1:])[:200]}")
