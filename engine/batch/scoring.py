"""Scores one table of a unit: filter, prepare, score, and say which rows are bad and why.

Scores stand beside the columns that the output needs, under names no column has; how they are
called in the output, and where bad rows go, is decided where the files are written.
"""

import contextlib
import gc
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.batch.isolation import rows_between
from engine.batch.layout import PATH, REASON, ROW, score_name
from engine.batch.reading import Piece
from engine.bundle import Device
from engine.errors import InvalidTable, JobChanged, ScoringFailed

if TYPE_CHECKING:
    import pyarrow.compute as pc

    from engine.prepare.preparer import Columns
    from engine.scorer import Scorer

_loading = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class TableScorer:
    """Scores the tables of a job.

    Attributes:
        bundle: Directory of the model's bundle.
        revision: Its digest.
        device: Where its margins are computed.
        condition: Rows to score, None for all.
        on_bad_row: ``fail`` raises for the first bad row; ``quarantine`` keeps all its columns.
        keep: Columns that the output needs beside the scores.
    """

    bundle: str
    revision: str
    device: Device
    condition: "pc.Expression | None"
    on_bad_row: Literal["fail", "null", "quarantine"]
    keep: tuple[str, ...]

    @property
    def scorer(self) -> "Scorer":
        """The model, loaded when it is first needed: reading goes on meanwhile."""
        return scorer_of(self.bundle, self.revision, self.device)

    def score(self, table: pa.Table, piece: Piece) -> pa.Table:
        """A table as read, scored; with ``PATH``, ``ROW`` and ``REASON`` if rows are bad.

        Rows on which the model itself fails are found by halving, and are bad too.

        Raises:
            InvalidTable: A row is bad and ``on_bad_row`` is ``fail``.
        """
        try:
            return self._score(table, piece)
        except ScoringFailed as error:
            if piece.rows == 1:
                return self.refuse(table, piece, f"the model failed on it: {error}")
            middle = piece.rows // 2
            halves = (
                rows_between([(piece, table)], 0, middle),
                rows_between([(piece, table)], middle, piece.rows),
            )
            scored = [self.score(part, place) for half in halves for place, part in half]
            return pa.concat_tables(scored, promote_options="default")

    def score_together(self, tables: Sequence[tuple[Piece, pa.Table]]) -> pa.Table:
        """Tables of one schema, scored as one if no row of them is bad, else one after the other.

        Raises as ``score`` does.
        """
        with contextlib.suppress(InvalidTable, ScoringFailed, pa.ArrowException):
            whole = pa.concat_tables([table for _, table in tables]).combine_chunks()
            if self.condition is not None:
                whole = whole.filter(self.condition)
            columns = self.scorer.preparer.table(whole)
            if not columns.bad:
                scores = self.scorer.tabulate(self.scorer.score_columns(columns), columns.bad)
                return _with_scores(whole.select(list(self.keep)), scores)
        scored = [self.score(table, piece) for piece, table in tables]
        return pa.concat_tables(scored, promote_options="default")

    def _score(self, table: pa.Table, piece: Piece) -> pa.Table:
        table, rows = self._chosen(table, piece)
        columns = _prepared(self.scorer, table, piece)
        if columns.bad and self.on_bad_row == "fail":
            raise _bad_row(piece, rows, columns.bad)
        scores = self.scorer.tabulate(self.scorer.score_columns(columns), columns.bad)
        return self._beside(table, rows, piece, scores, columns.bad)

    def refuse(self, table: pa.Table, piece: Piece, reason: str) -> pa.Table:
        """A table as read, with all its rows bad for one reason and none of them scored."""
        table, rows = self._chosen(table, piece)
        bad = dict.fromkeys(range(table.num_rows), reason)
        if bad and self.on_bad_row == "fail":
            raise _bad_row(piece, rows, bad)
        output = self.scorer.schema.output
        nothing = np.zeros((table.num_rows, len(output.columns)), output.type)
        return self._beside(table, rows, piece, self.scorer.tabulate(nothing, bad), bad)

    def _chosen(self, table: pa.Table, piece: Piece) -> tuple[pa.Table, NDArray[np.int64]]:
        """The rows that meet the condition, and their numbers in the file."""
        rows: NDArray[np.int64] = np.arange(piece.row, piece.row + piece.rows)
        if self.condition is None:
            return table, rows
        table = table.append_column(ROW, pa.array(rows)).filter(self.condition)
        return table.drop_columns([ROW]), table.column(ROW).to_numpy()

    def _beside(
        self, table: pa.Table, rows: NDArray[np.int64], piece: Piece, scores: pa.Table, bad: Mapping[int, str]
    ) -> pa.Table:
        """What the output needs of a table, with the scores beside it, and the reasons."""
        if not bad or self.on_bad_row != "quarantine":
            table = table.select(list(self.keep))
        table = _with_scores(table, scores)
        if bad:
            table = table.append_column(REASON, _reasons(bad, len(rows))).append_column(ROW, pa.array(rows))
            table = table.append_column(PATH, pa.repeat(pa.scalar(piece.path), len(rows)))
        return table


def scorer_of(bundle: str, revision: str, device: Device = "cpu") -> "Scorer":
    """The scorer of a bundle on a device, loaded and warmed up once per process.

    Raises ``JobChanged`` for another revision, ``Failed`` without the device.
    """
    with _loading:
        return _load(bundle, revision, device)


@lru_cache(maxsize=4)
def _load(bundle: str, revision: str, device: Device) -> "Scorer":
    with _without_collection():
        return _loaded(bundle, revision, device)


def _loaded(bundle: str, revision: str, device: Device) -> "Scorer":
    from engine.scorer import Scorer  # here, since compilers take long to import: reading goes on meanwhile

    scorer = Scorer.load(bundle, device=device)
    if scorer.revision != revision:
        raise JobChanged(
            f"the bundle at {bundle} changed since the job was planned: expected revision {revision[:12]},"
            f" found {scorer.revision[:12]}; put it back, or start again with --restart"
        )
    scorer.warm_up()
    return scorer


@contextmanager
def _without_collection() -> Iterator[None]:
    """No search for garbage while a million objects are made that stay: a quarter of the time of loading."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _prepared(scorer: "Scorer", table: pa.Table, piece: Piece) -> "Columns":
    try:
        return scorer.preparer.table(table)
    except InvalidTable as error:
        raise InvalidTable(f"{error} - at {piece.path}") from error


def _with_scores(table: pa.Table, scores: pa.Table) -> pa.Table:
    for output, column in enumerate(scores.columns):
        table = table.append_column(score_name(output), column)
    return table


def _reasons(bad: Mapping[int, str], n_rows: int) -> pa.Array:
    reasons: list[str | None] = [None] * n_rows
    for row, reason in bad.items():
        reasons[row] = reason
    return pa.array(reasons, pa.string())


def _bad_row(piece: Piece, rows: NDArray[np.int64], bad: Mapping[int, str]) -> InvalidTable:
    first = min(bad)
    more = f" (and {len(bad) - 1:,} more rows near it)" if len(bad) > 1 else ""
    return InvalidTable(
        f"{bad[first]} - at row {rows[first]:,} of {piece.path}{more};"
        " --on-bad-row null gives such rows a null score, --on-bad-row quarantine sets them aside"
    )
