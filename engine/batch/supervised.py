"""Runs units in a child process that may die of them: restarted, and after two deaths isolated.

For models that are other people's native code (ONNX graphs), and for units that a cluster lost.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from multiprocessing import Pipe

from engine.batch.isolation import find_killers
from engine.batch.plan import Unit
from engine.batch.records import Records
from engine.errors import ScoringFailed, TandemError

MOST_DEATHS = 4
STRIKES = 2
"""Deaths after which the units under way are searched for the rows that cause them."""


class _Died(Exception):
    """The child ended before its answer; ``under_way`` are the units it was at."""

    def __init__(self, under_way: set[int]) -> None:
        super().__init__(under_way)
        self.under_way = under_way


class _Child:
    """One worker process."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engine.batch.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if _has_descriptor() else subprocess.DEVNULL,
        )
        theirs.close()

    def run(self, *request: object) -> None:
        """Send a request and wait for its end; raises ``_Died`` or the first unit's error."""
        under_way: set[int] = set()
        errors: list[TandemError] = []
        try:
            self._pipe.send(request)
            while (event := self._pipe.recv())[0] != "end":
                if event[0] == "start":
                    under_way.add(event[1])
                elif event[0] == "done":
                    under_way.discard(event[1])
                else:
                    errors.append(event[1])
        except (EOFError, OSError) as error:
            if (code := self._process.wait()) > 0:  # a bug of ours, no signal: it printed its traceback
                raise RuntimeError(f"the scoring process ended with exit code {code}") from error
            raise _Died(under_way) from error
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Let the child go, by force if it is at work."""
        self._pipe.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run_supervised(records: Records, units: Sequence[Unit], *, threads: int) -> None:
    """Run units in a child process until all are committed or one fails, whose error is raised.

    Units under way at two deaths of the child are searched, by halving, for rows that kill it;
    those rows are bad from then on.
    """
    left = {unit.index: unit for unit in units}
    deaths: Counter[int] = Counter()
    while left:
        child = _Child()
        try:
            child.run("units", records, list(left), threads)
            return
        except _Died as death:
            deaths.update(death.under_way or left.keys())
        finally:
            child.close()
        done = records.units_done()
        for index in [index for index in left if index in done]:
            del left[index]
        for index in [index for index in left if deaths[index] == STRIKES]:
            _isolate(records, left[index])
        if found := [index for index in left if deaths[index] > MOST_DEATHS]:
            raise ScoringFailed(
                f"scoring unit {left[found[0]].name} ends its process, but no single row of it does;"
                " the model needs more memory than there is, or is broken"
            )


def _isolate(records: Records, unit: Unit) -> None:
    child = _Child()

    def survives(start: int, stop: int) -> bool:
        nonlocal child
        try:
            child.run("probe", records, unit.index, start, stop)
        except _Died:
            child.close()
            child = _Child()
            return False
        return True

    try:
        records.add_killers(unit.index, find_killers(unit.rows, survives))
    finally:
        child.close()


def _has_descriptor() -> bool:
    try:
        os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return True
