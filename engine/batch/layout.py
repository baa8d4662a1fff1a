"""What the files of an output look like: columns, types, names, codec."""

import hashlib
from dataclasses import dataclass

import pyarrow as pa

from engine.batch.plan import Codec, Plan, Unit
from engine.schema import Output

HIDDEN = "__tandem_"
"""Scored tables carry, beside the columns that were read, some under names no column has."""
REASON = HIDDEN + "reason"
ROW = HIDDEN + "row"
PATH = HIDDEN + "path"
SET_ASIDE = ("_file", "_row", "_reason")
"""Columns that a row which was set aside has beside its own: where it was read, and why it is bad."""
_SCORE_TYPES = {"float32": pa.float32(), "float64": pa.float64()}


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How scored tables become files.

    Attributes:
        schema: Columns of every file: what is kept, then the scores.
        kept: Names of the kept columns that stand in the files.
        n_scores: Number of score columns.
        partition_by: Columns that stand in the directories' names instead.
        quarantine: Whether bad rows go to files of their own.
        compression: Codec.
        file_bytes: Bytes per file, about; 0 for as many as a unit has.
        suffix: What makes file names of different jobs differ.
    """

    schema: pa.Schema
    kept: tuple[str, ...]
    n_scores: int
    partition_by: tuple[str, ...]
    quarantine: bool
    compression: Codec
    file_bytes: int
    suffix: str

    def output(self, table: pa.Table) -> pa.Table:
        """The columns of a scored table that are written, under their names."""
        columns = [*self.kept, *(score_name(output) for output in range(self.n_scores))]
        chosen = table.select(columns).rename_columns(self.schema.names)
        # Arrow's functions, a cast among them, take long to import.
        return chosen if chosen.schema.equals(self.schema) else chosen.cast(self.schema)

    def file_name(self, unit: Unit, number: int = 0) -> str:
        """``part-00017-1f2e3d4c5b6a.parquet``, the next ``part-00017.00001-1f2e3d4c5b6a.parquet``."""
        return f"part-{unit.name}{f'.{number:05d}' if number else ''}-{self.suffix}.parquet"

    def is_of(self, unit: Unit, file_name: str) -> bool:
        """Whether a file of an output is of this job and unit."""
        begins = (f"part-{unit.name}-", f"part-{unit.name}.")
        return file_name.startswith(begins) and self.suffix in file_name


def layout_of(plan: Plan, output: Output) -> Layout:
    """The layout of a job's output, given the model's."""
    options, kept = plan.options, pa.ipc.read_schema(pa.py_buffer(plan.kept_schema))
    inside = [field for field in kept if field.name not in options.partition_by]
    scores = [pa.field(name, _SCORE_TYPES[output.type]) for name in output.columns]
    return Layout(
        schema=pa.schema([*inside, *scores]),
        kept=tuple(field.name for field in inside),
        n_scores=len(scores),
        partition_by=options.partition_by,
        quarantine=options.on_bad_row == "quarantine",
        compression=options.compression,
        file_bytes=options.file_bytes,
        suffix=suffix_of(plan.job),
    )


def suffix_of(job: str) -> str:
    """What the names of a job's files end in, and no other job's: ids may have much in common."""
    return hashlib.sha256(job.encode()).hexdigest()[:12]


def score_name(output: int) -> str:
    """The name of an output's column in a scored table."""
    return f"{HIDDEN}score_{output}"


def plain(schema: pa.Schema) -> pa.Schema:
    """A schema with its dictionaries decoded and without metadata."""
    return pa.schema(
        [pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in schema]
    )
