"""Finds the rows that kill the process which scores them, and keeps them from killing again.

The rows found are recorded with the plan, as offsets within the unit, so that every later attempt
passes them by and treats them as bad.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from engine.batch.reading import Piece

REASON_KILLED = "kills the process that scores it"
MAX_KILLERS = 1000
"""More in one unit are no odd rows but an odd model."""

Part = tuple[Piece, pa.Table, bool]
"""Rows of one place that stand or fall together, and whether they are known to kill."""


def find_killers(n_rows: int, survives: Callable[[int, int], bool]) -> list[int]:
    """The offsets of the single rows that do not survive, by halving.

    Args:
        n_rows: Rows of the unit.
        survives: Whether rows ``start`` to ``stop`` are scored without a death.
    """
    found: list[int] = []
    ranges = [(0, n_rows)] if n_rows else []
    while ranges and len(found) < MAX_KILLERS:
        start, stop = ranges.pop()
        if survives(start, stop):
            continue
        if stop - start == 1:
            found.append(start)
            continue
        middle = (start + stop) // 2
        ranges += [(middle, stop), (start, middle)]
    return found


def rows_between(
    pieces: Iterable[tuple[Piece, pa.Table]], start: int, stop: int
) -> Iterator[tuple[Piece, pa.Table]]:
    """Those rows of a unit whose offsets are in a range."""
    offset = 0
    for piece, table in pieces:
        first, last = max(start - offset, 0), min(stop - offset, piece.rows)
        if first < last:
            yield Piece(piece.path, piece.row + first, last - first), table.slice(first, last - first)
        offset += piece.rows


def set_apart(pieces: Iterable[tuple[Piece, pa.Table]], offsets: list[int]) -> Iterator[Part]:
    """The rows of a unit with each killer, marked True, in a table of its own."""
    if not offsets:
        yield from ((piece, table, False) for piece, table in pieces)
        return
    offset = 0
    for piece, table in pieces:
        cuts = [0]
        for killer in sorted(offsets):
            if offset <= killer < offset + piece.rows:
                cuts += [killer - offset, killer - offset + 1]
        cuts.append(piece.rows)
        for index, (first, last) in enumerate(itertools.pairwise(cuts)):
            if first < last:
                part = Piece(piece.path, piece.row + first, last - first)
                yield part, table.slice(first, last - first), index % 2 == 1
        offset += piece.rows
