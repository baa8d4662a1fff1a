"""A driver as a process of its own: ``python -m tests.engine.batch.driver BUNDLE DATA OUTPUT RUNNER``.

With ``ray`` it starts a cluster of its own, and its exit status is 2 for a deliberate error, which it prints.
"""

import os
import sys
import time

from engine.batch.job import score_files
from engine.config import Batch
from engine.errors import TandemError

UNIT_ROWS = 100
CLOCK_OFF_BY = "TANDEM_TEST_CLOCK_OFF_BY_S"
"""Environment variable: seconds that Python's clock is ahead."""


def main(bundle: str, data: str, output: str, runner: str) -> int:
    """Run the job, one unit after the other."""
    settings = Batch(runner=runner, keep=("id",), unit_rows=UNIT_ROWS, threads=1)  # type: ignore[arg-type]
    try:
        score_files(bundle, [data], output, settings=settings)
    except TandemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def move_clock(seconds: float) -> None:
    """Let every module of this process have the time from a clock that is wrong."""
    right = time.time
    time.time = lambda: right() + seconds


if __name__ == "__main__":
    if CLOCK_OFF_BY in os.environ:
        move_clock(float(os.environ[CLOCK_OFF_BY]))
    sys.exit(main(*sys.argv[1:]))
