"""What is known of a request or a batch, added to counts and histograms in one call.

For what happens tens of thousands of times a second: step by step in the interpreter, counting took a tenth
of the throughput of a server of small requests.

A histogram over bounds b₀ < b₁ < … takes n + 2 cells: how many values were ≤ b₀, how many in (b₀, b₁], …,
how many beyond all, and the sum of all. With bounds 1, 2, 4 the values 1, 3 and 9 leave

    ≤ 1   ≤ 2   ≤ 4   more   sum
      1     0     1      1    13
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import entry, inlined, object_kernel
from kernels.parts import addresses_of, model_at, over_arrays, part

CELLS, TIMES, SIZES, PLACES = range(4)
"""Parts: int64 cells, upper bounds of times and of batches, float64, and where in the cells things begin."""
ROWS, TOTAL, DECODE, QUEUE, SCORE, ENCODE, BATCH_TIME, BATCH_SIZE, TIME_OF_SIZE, ROWS_OF_SIZE, LAST = range(
    11
)
"""Places: a count of rows, histograms of six times and of rows, two counts for each size, and a moment."""
NS = 1e9
"""Times are in seconds, and their sums in nanoseconds."""


@object_kernel
def count_request(
    address: int,
    answered: int,
    n_rows: int,
    total_s: float,
    decode_s: float,
    queue_s: float,
    score_s: float,
    encode_s: float,
) -> None:
    """Count one request, in cell ``answered``, its rows and its times."""
    model = model_at(address, 4)
    cells, bounds = part(model, CELLS, np.int64), part(model, TIMES, np.float64)
    places = part(model, PLACES, np.int64)
    cells[answered] += 1
    cells[places[ROWS]] += n_rows
    add(cells, places[TOTAL], bounds, total_s, NS)
    add(cells, places[DECODE], bounds, decode_s, NS)
    add(cells, places[QUEUE], bounds, queue_s, NS)
    add(cells, places[SCORE], bounds, score_s, NS)
    add(cells, places[ENCODE], bounds, encode_s, NS)


@object_kernel
def count_batch(address: int, n_rows: int, cost_s: float, moment_s: int) -> None:
    """Count one batch: its rows, what it cost, both by its size, and when it was."""
    model = model_at(address, 4)
    cells, places = part(model, CELLS, np.int64), part(model, PLACES, np.int64)
    size = add(cells, places[BATCH_SIZE], part(model, SIZES, np.float64), float(n_rows), 1.0)
    add(cells, places[BATCH_TIME], part(model, TIMES, np.float64), cost_s, NS)
    cells[places[TIME_OF_SIZE] + size] += np.int64(np.rint(cost_s * NS))
    cells[places[ROWS_OF_SIZE] + size] += n_rows
    cells[places[LAST]] = moment_s


@inlined
def add(cells: NDArray[Any], at: int, bounds: NDArray[Any], value: float, unit: float) -> int:
    """Add a value to the histogram that begins in cell ``at``, its sum in ``1 / unit``; its bucket."""
    bucket, stop = 0, len(bounds)
    while bucket < stop:
        middle = (bucket + stop) >> 1
        if bounds[middle] < value:
            bucket = middle + 1
        else:
            stop = middle
    cells[at + bucket] += 1
    cells[at + len(bounds) + 1] += np.int64(np.rint(value * unit))
    return bucket


def counts_into(
    cells: NDArray[np.int64],
    times: NDArray[np.float64],
    sizes: NDArray[np.float64],
    places: NDArray[np.int64],
) -> tuple[Callable[..., None], Callable[..., None]]:
    """``count_request`` and ``count_batch``, without their first argument, for these parts."""
    arrays = (cells, times, sizes, places)
    model = addresses_of(arrays)
    request = entry(count_request, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return over_arrays(request, model, arrays), over_arrays(entry(count_batch, 0, 0, 0.0, 0), model, arrays)
