"""The work of a job as any process sees it: one value per process, and one function to run a unit."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from engine.batch.filesystem import open_filesystem
from engine.batch.fragments import Footer
from engine.batch.isolation import REASON_KILLED, Part, set_apart
from engine.batch.layout import Layout, layout_of
from engine.batch.plan import Options, Plan, Unit
from engine.batch.reading import PIECE_BYTES, PIECE_ROWS, Columns, Piece, read_unit
from engine.batch.records import Records
from engine.batch.scoring import TableScorer, scorer_of
from engine.batch.where import columns_of, condition_of
from engine.batch.writing import UnitWriter
from engine.errors import JobChanged
from engine.schema import Schema

SMALL_BYTES = 1 << 20
"""A table whose buffers are no larger need not be measured exactly."""


class Group(NamedTuple):
    """Parts that are scored together.

    Attributes:
        parts: Rows of one schema, in their order.
        rows: Rows read for them.
        n_bytes: Their bytes in memory, about.
    """

    parts: Sequence[Part]
    rows: int
    n_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """All that scoring a unit takes; made once per process and job, shared by its threads."""

    plan: Plan
    records: Records
    filesystem: fs.FileSystem
    scorer: TableScorer
    columns: Columns
    layout: Layout
    footers: Sequence[Footer] = ()

    def read(self, unit: Unit) -> Iterator[tuple[Piece, pa.Table]]:
        """The tables of a unit as they lie in the input, and where they come from."""
        return read_unit(self.plan, unit, self.filesystem, self.columns, self.footers)

    def parts(self, unit: Unit, pieces: Iterable[tuple[Piece, pa.Table]]) -> Iterator[Part]:
        """The tables of a unit, with each row that is known to kill in one of its own."""
        return set_apart(pieces, self.records.killers(unit.index))

    def score(self, piece: Piece, table: pa.Table, kills: bool) -> pa.Table:
        """A part, scored; rows known to kill are bad without being scored."""
        if kills:
            return self.scorer.refuse(table, piece, REASON_KILLED)
        return self.scorer.score(table, piece)

    def score_group(self, group: Group) -> pa.Table:
        """Parts that belong together, scored."""
        if len(group.parts) == 1:
            return self.score(*group.parts[0])
        return self.scorer.score_together([(piece, table) for piece, table, _ in group.parts])

    def score_all(
        self, unit: Unit, pieces: Iterable[tuple[Piece, pa.Table]]
    ) -> Iterator[tuple[int, pa.Table]]:
        """The scored tables of a unit, one after the other, and how many rows were read for each."""
        for group in grouped(self.parts(unit, pieces)):
            yield group.rows, self.score_group(group)

    def survives(self, table: pa.Table, piece: Piece) -> None:
        """Score a table for the sake of surviving it; bad rows are no matter here."""
        replace(self.scorer, on_bad_row="null").score(table, piece)

    def writer(self, unit: Unit, runner: str) -> UnitWriter:
        """A new attempt at a unit."""
        return UnitWriter(self.records, unit, self.layout, runner=runner)


ScoreAll = Callable[[Work, Unit, Iterable[tuple[Piece, pa.Table]]], Iterator[tuple[int, pa.Table]]]
"""Scores the tables of a unit, in their order; says how many rows were read for each."""


def grouped(parts: Iterable[Part]) -> Iterator[Group]:
    """Parts in their order, small ones of one schema together: one large table is scored faster than many.

    A group ends where another part as large as the last would make it larger than a piece.
    """
    pending: list[Part] = []
    rows = n_bytes = 0
    for part in parts:
        piece, table, kills = part
        if pending and (kills or not table.schema.equals(pending[0][1].schema)):
            yield Group(pending, rows, n_bytes)
            pending, rows, n_bytes = [], 0, 0
        part_bytes = bytes_of(table)
        pending.append(part)
        rows, n_bytes = rows + piece.rows, n_bytes + part_bytes
        if kills or rows + piece.rows > PIECE_ROWS or n_bytes + part_bytes > PIECE_BYTES:
            yield Group(pending, rows, n_bytes)
            pending, rows, n_bytes = [], 0, 0
    if pending:
        yield Group(pending, rows, n_bytes)


def bytes_of(table: pa.Table) -> int:
    """Bytes of a table's rows, at most: where its buffers are small, they count whole, shared or not.

    To count only what is referenced takes six times as long, 0.13 ms for 24 columns.
    """
    whole: int = table.get_total_buffer_size()
    return whole if whole <= SMALL_BYTES else int(table.nbytes)


@lru_cache(maxsize=4)
def work_of(records: Records) -> Work:
    """The work of the plan that some records are of; made once per process.

    Raises ``JobChanged`` if the job follows another plan by now.
    """
    if (plan := records.plan()) is None:
        raise JobChanged(f"the job was started anew meanwhile - at {records.store}")
    return make_work(plan, records, scorer_of(plan.bundle, plan.revision, plan.device).schema)


def make_work(plan: Plan, records: Records, schema: Schema, footers: Sequence[Footer] = ()) -> Work:
    """The work of a plan for a model of this schema; the model itself is loaded by who scores first.

    Footers of the plan's files are given by who has just read them to make the plan.
    """
    options = plan.options
    return Work(
        plan=plan,
        records=records,
        filesystem=open_filesystem(plan.inputs[0])[0],
        scorer=TableScorer(
            plan.bundle,
            plan.revision,
            plan.device,
            condition_of(options.where),
            options.on_bad_row,
            _kept(options),
        ),
        columns=columns_to_read(schema, plan),
        layout=layout_of(plan, schema.output),
        footers=footers,
    )


def run_unit(work: Work, unit: Unit, runner: str, score_all: ScoreAll = Work.score_all) -> bool:
    """Read, score, write and commit one unit; False if another attempt committed it first."""
    writer = work.writer(unit, runner)
    try:
        for n_rows, scored in score_all(work, unit, work.read(unit)):
            writer.read(n_rows)
            writer.write(scored)
        return writer.commit()
    except BaseException:
        writer.abort()
        raise


def columns_to_read(schema: Schema, plan: Plan) -> Columns:
    """The columns a job needs from the files: features, kept ones, those of the condition."""
    options = plan.options
    wanted = dict.fromkeys((*schema.names, *_kept(options), *columns_of(options.where)))
    texts = [
        feature.name
        for feature in schema.features
        if feature.type == "category" and not isinstance(next(iter(feature.categories), ""), int)
    ]
    names = tuple(name for name in wanted if name not in plan.partition_types)
    return Columns(names, tuple(name for name in texts if name in names))


def _kept(options: Options) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*options.keep, *options.partition_by)))
