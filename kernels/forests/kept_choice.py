"""Keep the kernels chosen for a forest, with their tables, where other processes find and share them.

So replicas of a machine choose alike, hold the tables once between them and build them once. The
choice is a measurement and the code is the tables' builder: a file is good for one processor, and
for the sources that wrote it.
"""

import contextlib
import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import binding
from numba.core import config
from numpy.typing import DTypeLike, NDArray

from kernels.array_file import map_arrays, write_arrays
from kernels.compiler import sources_digest
from kernels.forests.blended_trees import BlendedTrees
from kernels.forests.choice import Choice, choose
from kernels.forests.dispatch import BATCH_ROWS
from kernels.forests.forest import Forest
from kernels.forests.interleaved import Interleaved
from kernels.forests.interval_masks import IntervalMasks
from kernels.forests.tabulated import Tabulated

KINDS = {kind.name: kind for kind in (IntervalMasks, Interleaved, BlendedTrees)}
"""The kernels that have tables."""
MAX_KEPT_BYTES = 1 << 30
"""Of all files together; the oldest go first. Whoever has one mapped keeps it."""


def kept_choice(forest: Forest, dtype: DTypeLike, forest_digest: str, folder: Path) -> Choice:
    """What ``choose`` answers, from ``folder`` if it was kept there before, else kept there if possible.

    Args:
        forest: The forest.
        dtype: As in ``choose``.
        forest_digest: Tells it from all other forests.
        folder: A directory, made if it is not there.
    """
    key = choice_key(dtype, forest_digest)
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.tables"
    arrays = map_arrays(path, key)
    if arrays is None:
        chosen = choose(forest, dtype)
        if not all(kernel.name in KINDS for kernel in chosen.by_rows.values()):
            return chosen
        arrays = map_arrays(path, key)  # another process may have been faster
        if arrays is None:
            with contextlib.suppress(OSError):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_arrays(path, key, _arrays_of(chosen))
                _forget_the_oldest(folder)
            arrays = map_arrays(path, key)
        if arrays is None:
            return chosen
    return _choice_of(arrays, forest, dtype)


def choice_key(dtype: DTypeLike, forest_digest: str) -> str:
    """Everything that a kept choice depends on."""
    processor = config.CPU_NAME or binding.get_host_cpu_name()
    return " ".join(
        (forest_digest, np.dtype(dtype).str, sources_digest(__file__), platform.machine(), processor)
    )


def _arrays_of(chosen: Choice) -> dict[str, NDArray[Any]]:
    """By ``kernel/part`` the tables; as ``chosen`` the place in KINDS of each size's kernel."""
    names = [chosen.by_rows[n_rows].name for n_rows in BATCH_ROWS]
    arrays = {"chosen": np.array([list(KINDS).index(name) for name in names])}
    for kernel in chosen.by_rows.values():
        if isinstance(kernel, Tabulated):
            parts = zip(kernel.part_names, kernel.arrays, strict=True)
            arrays |= {f"{kernel.name}/{part}": array for part, array in parts}
    return arrays


def _choice_of(arrays: Mapping[str, NDArray[Any]], forest: Forest, dtype: DTypeLike) -> Choice:
    names = [list(KINDS)[number] for number in arrays["chosen"]]
    kernels = {
        name: KINDS[name](forest, dtype, [arrays[f"{name}/{part}"] for part in KINDS[name].part_names])
        for name in set(names)
    }
    return Choice({n_rows: kernels[name] for n_rows, name in zip(BATCH_ROWS, names, strict=True)})


def _forget_the_oldest(folder: Path) -> None:
    files = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    n_bytes = 0
    for path in files:
        n_bytes += path.stat().st_size
        if n_bytes > MAX_KEPT_BYTES:
            path.unlink()
