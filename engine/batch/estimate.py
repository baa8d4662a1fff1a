"""What a job would take, before it runs: from all footers, and one row group read and scored for real."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

from engine.batch.fragments import Footer
from engine.batch.local import AHEAD_BYTES
from engine.batch.part_file import PartFile
from engine.batch.planning import Planned
from engine.batch.reading import PIECE_ROWS, Columns, Piece
from engine.batch.work import Work

TINY_GROUP_ROWS = 10_000
SLOW_CODECS = {"GZIP", "BROTLI", "ZSTD"}
FLOATS = {"FLOAT", "DOUBLE"}
WORTH_TELLING = 1.15
"""Advice is given where a rewrite makes reading so many times faster."""
WORTH_SECONDS = 0.1
"""And where it saves so much; shorter times are told in milliseconds."""
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """One row group, read, scored and written.

    Attributes:
        rows: Its rows.
        read_s: Seconds to read its columns.
        score_s: Seconds to score and write it.
        n_bytes: Bytes of its columns in memory.
        output_bytes: Bytes written for it.
        rewritten_read_s: Seconds to read the same columns written with snappy and without
            dictionaries on numbers.
        dictionary_floats: Columns of floats that are stored as dictionaries.
        codec: How its pages are compressed.
    """

    rows: int
    read_s: float
    score_s: float
    n_bytes: int
    output_bytes: int
    rewritten_read_s: float
    dictionary_floats: tuple[str, ...]
    codec: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would take.

    Attributes:
        n_files: Input files.
        n_units: Units of commit.
        rows: Rows to read.
        input_bytes: Bytes of the input files.
        output_bytes: Bytes of the output, about.
        memory_bytes: Memory of the rows under way, about.
        seconds: Time of the local runner.
        cores: Cores that it uses.
        advice: What costs a lot in the input's layout, in sentences.
    """

    n_files: int
    n_units: int
    rows: int
    input_bytes: int
    output_bytes: int
    memory_bytes: int
    seconds: float
    cores: int
    advice: tuple[str, ...]

    def __str__(self) -> str:
        """A few lines for people."""
        lines = [
            f"{self.rows:,} rows in {_counted(self.n_files, 'file')} of {self.input_bytes / 1e6:,.1f} MB,"
            f" {_counted(self.n_units, 'unit')}",
            f"about {_duration(self.seconds)} on {_counted(self.cores, 'core')},"
            f" {self.memory_bytes / 1e6:,.0f} MB of memory for rows,"
            f" {self.output_bytes / 1e6:,.1f} MB of output",
        ]
        return "\n".join([*lines, *(f"advice: {sentence}" for sentence in self.advice)])


def estimate(planned: Planned, sample: Sample | None, *, cores: int) -> Estimate:
    """The estimate for a plan, given what one row group took (None where there are no rows)."""
    plan, rows = planned.plan, planned.plan.rows
    busy = max(1, min(cores, max(len(plan.units), -(-rows // PIECE_ROWS))))
    scale = rows / sample.rows if sample else 0.0
    row_bytes = sample.n_bytes / sample.rows if sample else 0.0
    largest = min(max((max(footer.rows, default=0) for footer in planned.footers), default=0), PIECE_ROWS)
    return Estimate(
        n_files=len(plan.files),
        n_units=len(plan.units),
        rows=rows,
        input_bytes=sum(file.size for file in plan.files),
        output_bytes=int(sample.output_bytes * scale) if sample else 0,
        memory_bytes=int(min(AHEAD_BYTES + 2 * busy * largest * row_bytes, rows * row_bytes)),
        seconds=(sample.read_s + sample.score_s) * scale / busy if sample else 0.0,
        cores=busy,
        advice=advice(planned.footers, sample, rows=rows, cores=busy),
    )


def advice(footers: Sequence[Footer], sample: Sample | None, *, rows: int, cores: int) -> tuple[str, ...]:
    """What a rewrite of the input would gain, where it gains something."""
    if sample is None:
        return ()
    found = []
    groups = [rows for footer in footers for rows in footer.rows]
    if len(groups) > 1 and median(groups) < TINY_GROUP_ROWS:
        found.append(
            f"half of the {len(groups):,} row groups have fewer than {TINY_GROUP_ROWS:,} rows;"
            " a million is better"
        )
    saved = (sample.read_s - sample.rewritten_read_s) * rows / sample.rows / cores
    if sample.read_s / max(sample.rewritten_read_s, 1e-9) < WORTH_TELLING or saved < WORTH_SECONDS:
        return tuple(found)
    if names := sample.dictionary_floats:
        found.append(
            f"{len(names)} columns of floats (such as '{names[0]}') are stored as dictionaries; written"
            f" without (use_dictionary=False), and with snappy, reading saves about {_duration(saved)}"
        )
    elif sample.codec in SLOW_CODECS:
        found.append(f"pages are in {sample.codec}; with snappy, reading saves about {_duration(saved)}")
    return tuple(found)


def take_sample(planned: Planned, work: Work) -> Sample | None:
    """Read, score and write the first row group that has rows; None if none has."""
    places = (
        (file, group)
        for file, footer in enumerate(planned.footers)
        for group, n in enumerate(footer.rows)
        if n
    )
    place = next(places, None)
    if place is None:
        return None
    index, group = place
    path, rows = planned.plan.files[index].path, planned.footers[index].rows[group]
    table = _read(planned.filesystem.open_input_file(path), group, work.columns)
    rewritten = pa.BufferOutputStream()
    texts = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    pq.write_table(table, rewritten, use_dictionary=texts or False, row_group_size=rows)
    plain = rewritten.getvalue()
    read_s, rewritten_read_s = _fastest(
        lambda: _read(planned.filesystem.open_input_file(path), group, work.columns),
        lambda: _read(pa.BufferReader(plain), 0, work.columns),
    )
    output_bytes = _score_and_write(table, Piece(path, 0, rows), work)
    (score_s,) = _fastest(lambda: _score_and_write(table, Piece(path, 0, rows), work))
    with pq.ParquetFile(planned.filesystem.open_input_file(path)) as parquet:
        meta = parquet.metadata.row_group(group)
    columns = [meta.column(index) for index in range(meta.num_columns)]
    return Sample(
        rows=rows,
        read_s=read_s,
        score_s=score_s,
        n_bytes=table.nbytes,
        output_bytes=output_bytes,
        rewritten_read_s=rewritten_read_s,
        dictionary_floats=tuple(c.path_in_schema for c in columns if is_dictionary_of_floats(c)),
        codec=columns[0].compression,
    )


def _duration(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= WORTH_SECONDS else f"{1e3 * seconds:,.0f} ms"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def is_dictionary_of_floats(column: pq.ColumnChunkMetaData) -> bool:
    """Whether a column chunk stores floats as a dictionary, which costs space and time."""
    return column.physical_type in FLOATS and "RLE_DICTIONARY" in column.encodings


def _read(source: pa.NativeFile, group: int, columns: Columns) -> pa.Table:
    with pq.ParquetFile(source, read_dictionary=list(columns.dictionaries)) as file:
        return file.read_row_group(group, columns=list(columns.names), use_threads=False)


def _score_and_write(table: pa.Table, piece: Piece, work: Work) -> int:
    file = PartFile(io.BytesIO(), work.layout.schema, work.layout.compression)
    file.write(work.layout.output(work.scorer.score(table, piece)))
    return file.finish("sample", "sample").size


def _fastest(*actions: Callable[[], object]) -> list[float]:
    """The seconds of each action's fastest run; they take turns, so that a busy machine is so to all."""
    best = [float("inf")] * len(actions)
    for _ in range(REPEATS):
        for index, action in enumerate(actions):
            begun = time.perf_counter()
            action()
            best[index] = min(best[index], time.perf_counter() - begun)
    return best
