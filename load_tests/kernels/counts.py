"""What counting bins costs a forest's kernel: ``python -m load_tests.kernels --counts``.

In one process, short blocks of the same batches go through the kernel, the counting kernel and the kernel
once more, in an order drawn anew each time. A cost is the median over the blocks of what was measured side
by side; the kernel against itself says what the measure is worth.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from load_tests.kernels.models import Model

BLOCK_S = 0.004
"""How long a block takes: other work on the machine seldom begins or ends within three of them."""
N_ROWS = 32_768
N_RESAMPLES = 2000

Score = Callable[[NDArray[Any], NDArray[Any]], None]


def table(model: Model, sizes: Sequence[int], seconds: float) -> str:
    """What counting costs by size of batch, in Markdown, after so many seconds for each."""
    plain, counting, X, out = _kernels(model)
    lines = [
        f"| {model.name}: cost, median (95 % interval) | counting | the kernel against itself |",
        "|---|---|---|",
    ]
    for n_rows in sizes:
        batches = [(X[i : i + n_rows], out[i : i + n_rows]) for i in range(0, len(X) - n_rows + 1, n_rows)]
        costs = ratios({"plain": plain, "counting": counting, "again": plain}, batches, seconds) - 1
        cells = [_cell(costs[:, which]) for which in range(2)]
        lines.append(f"| {n_rows:,} row{'s' * (n_rows > 1)}, {len(costs)} blocks | {' | '.join(cells)} |")
    return "\n".join(lines)


def ratios(ways: dict[str, Score], batches: Sequence[Any], seconds: float) -> NDArray[np.float64]:
    """Times of the second and later ways over the first one's, float64[blocks, ways - 1]."""
    scores = list(ways.values())
    calls = _calls_of_a_block(scores[0], batches)
    random = np.random.default_rng(0)
    found = []
    end = time.perf_counter() + seconds
    for block in _blocks(batches, calls):
        times = np.zeros(len(scores))
        for way in random.permutation(len(scores)):
            times[way] = _time_ns(scores[way], block)
        found.append(times[1:] / times[0])
        if time.perf_counter() > end:
            return np.array(found)
    raise AssertionError("blocks never end")


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of the medians of resamples, a bootstrap interval of the median."""
    random = np.random.default_rng(0)
    picks = random.integers(0, len(values), (N_RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[picks], axis=1), [2.5, 97.5])
    return float(low), float(high)


def _kernels(model: Model) -> tuple[Score, Score, NDArray[Any], NDArray[Any]]:
    """The kernel, the counting one, rows for them and room for their margins."""
    from engine.bundle import read_bundle
    from kernels.forests.choice import choose
    from kernels.forests.counting import Counting
    from kernels.forests.ending import sum_dtype
    from kernels.forests.forest import Forest

    bundle = read_bundle(model.bundle)
    forest = Forest.of_arrays(bundle.arrays("forest.npz"))
    dtype = bundle.manifest.schema.dtype
    X = np.array(np.load(model.rows, mmap_mode="r")[:N_ROWS], dtype)
    kernel = choose(forest, dtype)
    counting = Counting(kernel, forest, dtype)
    return kernel.score_rows, counting.score_rows, X, np.empty((len(X), forest.n_outputs), sum_dtype(forest))


def _calls_of_a_block(score: Score, batches: Sequence[Any]) -> int:
    sample = batches[: max(1, len(batches) // 8)]
    _time_ns(score, sample)  # the first calls are slower
    return max(1, round(BLOCK_S * 1e9 * len(sample) / _time_ns(score, sample)))


def _blocks(batches: Sequence[Any], calls: int) -> Iterator[list[Any]]:
    """Blocks of so many calls, round and round the batches."""
    endless = cycle(batches)
    while True:
        yield [next(endless) for _ in range(calls)]


def _time_ns(score: Score, block: Sequence[Any]) -> int:
    """Processor time of this process."""
    start = time.process_time_ns()
    for X, out in block:
        score(X, out)
    return time.process_time_ns() - start


def _cell(costs: NDArray[np.float64]) -> str:
    low, high = interval(costs)
    return f"{np.median(costs):+.2%} ({low:+.2%} to {high:+.2%})"
