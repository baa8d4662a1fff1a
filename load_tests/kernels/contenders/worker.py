"""A contender's process: ``python -m load_tests.kernels.contenders.worker LIBRARY MODEL CORE``.

MODEL is the JSON of a ``kernel_models.Model``. Speaks JSON lines: it says that it is ready, then
answers ``{"do": "score", "n": …, "to": path}`` and ``{"do": "time", "n": …, "seconds": …}``.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from load_tests.kernels.contenders.contender import Batch, Contender
from load_tests.kernels.contenders.forests import FORESTS
from load_tests.kernels.contenders.linear import LINEAR
from load_tests.kernels.contenders.pipelines import PIPELINES

N_ROTATED = 32_768
"""Batches follow one another through so many rows, so that no branch predictor knows them by heart."""


def batches_of(contender: Contender, rows: Any, n: int) -> list[Batch]:
    """Consecutive batches of ``n`` rows through the rotated rows; one batch if ``n`` is more than those."""
    rotated = min(N_ROTATED, len(rows))
    if n >= rotated:
        return [contender.prepare(rows[:n])]
    return [contender.prepare(rows[i : i + n]) for i in range(0, rotated - n + 1, n)]


def ns_per_row(score: Callable[[Batch], Any], batches: list[Batch], n: int, seconds: float) -> float:
    """Mean time of a row over calls that go round the batches for at least ``seconds``.

    Time of this process on its core: the same as elapsed time where nothing else runs, and not
    disturbed where something does.
    """
    group = min(len(batches), max(16, 512 // n))  # reading this clock takes as long as scoring a row
    n_calls, position = 0, 0
    start = time.process_time_ns()
    end = start + seconds * 1e9
    while True:
        for batch in batches[position : position + group]:
            score(batch)
        n_calls += group
        position = position + group if position + 2 * group <= len(batches) else 0
        now = time.process_time_ns()
        if now >= end:
            return (now - start) / (n_calls * n)


def serve(contender: Contender, rows: Any, answers: Any) -> None:
    """Answer commands from stdin until it closes."""
    kept: tuple[int, list[Batch]] = (0, [])
    for line in sys.stdin:
        command = json.loads(line)
        n = command["n"]
        if kept[0] != n:
            kept = (0, [])
            kept = (n, batches_of(contender, rows, n))
            if n <= N_ROTATED:
                contender.score(kept[1][0])
        if command["do"] == "score":
            margins = np.concatenate([np.array(contender.score(b), np.float64).ravel() for b in kept[1]])
            np.save(command["to"], margins)
            answer: dict[str, float] = {"n": len(margins)}
        else:
            answer = {"ns_per_row": ns_per_row(contender.score, kept[1], n, command["seconds"])}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Load the model and serve."""
    library, model, core = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    # Libraries print what they like to stdout; the answers keep the pipe to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    contender = {**FORESTS, **PIPELINES, **LINEAR}[library](model)
    rows = np.load(model["rows"], mmap_mode="r")
    ready = {"version": contender.version, "about": contender.about, "most_rows": contender.most_rows}
    print(json.dumps(ready), file=answers, flush=True)
    serve(contender, rows, answers)


if __name__ == "__main__":
    main()
