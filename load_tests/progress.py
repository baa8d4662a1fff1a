"""The live line of a run on a terminal's stderr."""

import os
import sys

from load_tests.fast.generator import Samples
from load_tests.results.recording import Second, outcome_of
from load_tests.results.result import latency_of

ERASE_THE_REST = "\x1b[K"


def show_live(line: str) -> None:
    """Put a line in the place of the last one, cut to the terminal's width; silent where stderr is none."""
    if sys.stderr.isatty():
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0 where it does not say
        print(f"\r{line[: columns - 1]}{ERASE_THE_REST}", end="", file=sys.stderr, flush=True)


def progress_line(at: int, second: Second) -> str:
    """One second of a run in a line."""
    latency = latency_of(second.latencies)
    return (
        f"{at + 1:4d} s  {second.ok:7,d} requests/s  p50 {1000 * (latency.p50_s or 0):7.2f} ms"
        f"  p99 {1000 * (latency.p99_s or 0):8.2f} ms  {second.shed} shed  {second.failed} failed"
    )


class SampleProgress:
    """Shows what the fast generator saw in the last second; silent where stderr is no terminal."""

    def __init__(self) -> None:
        self._seen = 0

    def __call__(self, second: int, samples: Samples) -> None:
        """Show the samples that came since the last call."""
        if not sys.stderr.isatty():
            return
        latest = Second()
        for latency_s, status in zip(
            samples.latency[self._seen :], samples.status[self._seen :], strict=True
        ):
            outcome = outcome_of(status)
            latest.shed += outcome == "shed"
            latest.failed += outcome == "failed"
            if outcome == "ok":
                latest.latencies.add(latency_s)
        self._seen = len(samples.latency)
        show_live(progress_line(second - 1, latest))
