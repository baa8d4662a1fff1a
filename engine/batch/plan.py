"""The plan of a job: which row groups of which files make up which unit of commit. Pure.

A unit becomes one committed output file (or none, or one per partition). Small files are merged
into a unit, a large one is split between row groups; the plan is made once, from footers, and
stored before any work, so that every driver and worker of the job means the same by "unit 17".
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from engine.bundle import ENDS, Device

JOB_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
JobId = Annotated[str, msgspec.Meta(pattern=f"^{JOB_ID}{ENDS}")]
"""A letter or digit, then up to 63 letters, digits, dots, dashes and underscores. It names a directory that
is removed in the end."""
PartitionType = Literal["int64", "string"]
"""Columns that directories carry have no other types."""
Codec = Literal["snappy", "zstd", "lz4", "none"]
SPREAD_UNITS = 16
LEAST_UNIT_ROWS = 1 << 16
UNIT_BYTES = 1 << 29
"""Uncompressed bytes per unit: on a cluster a unit is in memory as a whole."""
PLAN = "plan.json"
"""Name of the plan among a job's records."""


class RowGroup(NamedTuple):
    """What the plan needs to know of a row group.

    Attributes:
        rows: Rows in it.
        n_bytes: Its uncompressed bytes.
        chosen: Whether a row of it may meet the condition; if none can, it is not read.
    """

    rows: int
    n_bytes: int = 0
    chosen: bool = True


class InputFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input file as it was when the plan was made.

    Attributes:
        path: Path inside the input's file system.
        size: Bytes.
        mtime_ns: Last modification in nanoseconds; 0 where the file system has none.
        partition: Values that its directories carry (``month=7/``), by column.
    """

    path: str
    size: int
    mtime_ns: int
    partition: dict[str, str | None] = {}


class Fragment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Consecutive row groups of one file.

    Attributes:
        file: Index of the file in the plan.
        first: First row group.
        stop: One past the last row group.
        rows: Rows to take from them; fewer than they hold only where a limit cuts.
        passed_over: Rows in them that are known not to meet the condition: then none is read.
    """

    file: int
    first: int
    stop: int
    rows: int
    passed_over: int = 0


class Unit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is committed at once; ``index`` counts from 0 in input order, ``rows`` are those to read."""

    index: int
    rows: int
    fragments: tuple[Fragment, ...]

    @property
    def name(self) -> str:
        """``00017``: sorts like the index."""
        return f"{self.index:05d}"

    @property
    def passed_over(self) -> int:
        """Rows of row groups that are not read, since none of their rows can meet the condition."""
        return sum(fragment.passed_over for fragment in self.fragments)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options that decide what the output holds; a job with others is another job.

    Attributes:
        keep: Input columns written beside the score, in this order.
        where: Rows to score, as ``engine.batch.where`` reads it; empty for all.
        limit: Score only the first rows of the input, counted before ``where``; 0 for all.
        on_bad_row: What happens to a row that breaks a rule of a feature.
        max_bad_fraction: More bad rows than this share fail the job.
        partition_by: Kept columns whose values become directories of the output.
        unit_rows: Rows per unit.
        file_bytes: Bytes per output file, about, if a unit has more; 0 for one file per unit.
        compression: Codec of the output files.
    """

    keep: tuple[str, ...] = ()
    where: str = ""
    limit: int = 0
    on_bad_row: Literal["fail", "null", "quarantine"] = "fail"
    max_bad_fraction: float = 1.0
    partition_by: tuple[str, ...] = ()
    unit_rows: int = 1 << 20
    file_bytes: int = 0
    compression: Codec = "snappy"


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a worker needs to score any unit of a job.

    Attributes:
        job: The job's id.
        bundle: Directory of the bundle.
        revision: The bundle's digest.
        inputs: Locations as the caller gave them, made absolute.
        options: What decides the output.
        kept_schema: The kept columns as the files have them, an Arrow schema in IPC format.
        partition_types: Arrow types of the columns that the files' directories carry.
        files: The files that the units index.
        units: The units, in input order.
        device: Where margins are computed; no part of what makes two jobs the same.
    """

    job: JobId
    bundle: str
    revision: str
    inputs: tuple[str, ...]
    options: Options
    kept_schema: bytes
    partition_types: dict[str, PartitionType]
    files: tuple[InputFile, ...]
    units: tuple[Unit, ...]
    device: Device = "cpu"
    format: Literal[1] = 1

    @property
    def rows(self) -> int:
        """Rows to read, of all units."""
        return sum(unit.rows for unit in self.units)


def fingerprint(revision: str, options: Options, files: Sequence[InputFile]) -> str:
    """The default id of a job: the same model, options and input bytes give the same id."""
    text = msgspec.json.encode((revision, options, files), order="deterministic")
    return hashlib.sha256(text).hexdigest()[:16]


def spread(rows: int, unit_rows: int) -> int:
    """Rows per unit, fewer than ``unit_rows`` where that many would leave cores idle in a small job."""
    return min(unit_rows, max(rows // SPREAD_UNITS, LEAST_UNIT_ROWS))


def units_of(
    files: Sequence[Sequence[RowGroup]], *, unit_rows: int, unit_bytes: int = UNIT_BYTES, limit: int = 0
) -> tuple[Unit, ...]:
    """Group row groups into units.

    A unit holds at most ``unit_rows`` rows and ``unit_bytes`` bytes, unless one row group alone is
    larger: a row group is never cut, except where the limit ends. Files without rows, and row groups
    that are not read, join the unit beside them, so that nothing of the input is passed over in silence.

    Args:
        files: The row groups of every file.
        unit_rows: Rows per unit, aimed at.
        unit_bytes: Uncompressed bytes per unit, aimed at.
        limit: Take only so many rows, 0 for all; those that are not read count.
    """
    units: list[Unit] = []
    pending: list[Fragment] = []
    pending_rows = pending_bytes = 0
    for piece in _limited(_pieces(files), limit):
        n_bytes = files[piece.file][piece.first].n_bytes if piece.rows else 0
        full = pending_rows + piece.rows > unit_rows or pending_bytes + n_bytes > unit_bytes
        if pending_rows and piece.rows and full:
            units.append(Unit(len(units), pending_rows, tuple(pending)))
            pending, pending_rows, pending_bytes = [], 0, 0
        _append(pending, piece)
        pending_rows += piece.rows
        pending_bytes += n_bytes
    if pending:
        units.append(Unit(len(units), pending_rows, tuple(pending)))
    return tuple(units)


def differences(stored: Plan, wanted: Plan) -> list[str]:
    """What changed between two plans, in words; empty if they are the same job."""
    found = []
    if stored.revision != wanted.revision:
        found.append(f"the bundle was {stored.revision[:12]} and is {wanted.revision[:12]}")
    for name in Options.__struct_fields__:
        was, now = getattr(stored.options, name), getattr(wanted.options, name)
        if was != now:
            found.append(f"'{name}' was {was!r} and is {now!r}")
    if stored.files != wanted.files:
        found.append(_changed_files(stored.files, wanted.files))
    if not found and stored.units != wanted.units:
        found.append("its rows were divided into units otherwise, by another version of this software")
    return found


def carries_on(stored: Plan, wanted: Plan, done: Collection[int]) -> bool:
    """Whether a plan made anew can take the place of a stored one: what was finished means the same in both.

    So a job goes on whose input was cured where it was not scored yet, or that failed on a bad row and is to
    bear with such rows now.
    """
    if (stored.revision, stored.kept_schema) != (wanted.revision, wanted.kept_schema):
        return False
    if not _same_where_done(stored.options, wanted.options):
        return False
    return all(
        index < len(wanted.units)
        and stored.units[index] == wanted.units[index]
        and all(stored.files[f.file] == wanted.files[f.file] for f in stored.units[index].fragments)
        for index in done
    )


def _same_where_done(stored: Options, wanted: Options) -> bool:
    """Whether finished units are what they would be with other options.

    Those of a job that fails on a bad row have none, and how many there may be is judged at the end.
    """
    on_bad_row = wanted.on_bad_row if stored.on_bad_row == "fail" else stored.on_bad_row
    fraction = wanted.max_bad_fraction
    return wanted == msgspec.structs.replace(stored, on_bad_row=on_bad_row, max_bad_fraction=fraction)


def _pieces(files: Sequence[Sequence[RowGroup]]) -> Iterator[Fragment]:
    for file, groups in enumerate(files):
        if not groups:
            yield Fragment(file, 0, 0, 0)
        for index, group in enumerate(groups):
            read, passed_over = (group.rows, 0) if group.chosen else (0, group.rows)
            yield Fragment(file, index, index + 1, read, passed_over)


def _limited(pieces: Iterator[Fragment], limit: int) -> Iterator[Fragment]:
    left = limit
    for piece in pieces:
        if not limit:
            yield piece
        elif left > 0:
            read, passed_over = min(piece.rows, left), min(piece.passed_over, left)
            yield msgspec.structs.replace(piece, rows=read, passed_over=passed_over)
            left -= read + passed_over


def _append(pending: list[Fragment], piece: Fragment) -> None:
    last = pending[-1] if pending else None
    if last is not None and last.file == piece.file and last.stop == piece.first and _alike(last, piece):
        rows, passed_over = last.rows + piece.rows, last.passed_over + piece.passed_over
        pending[-1] = Fragment(last.file, last.first, piece.stop, rows, passed_over)
    else:
        pending.append(piece)


def _alike(a: Fragment, b: Fragment) -> bool:
    """Whether both are read, or neither: a fragment is one or the other."""
    return not (a.rows and b.passed_over) and not (a.passed_over and b.rows)


def _changed_files(stored: Sequence[InputFile], wanted: Sequence[InputFile]) -> str:
    was, now = {file.path: file for file in stored}, {file.path: file for file in wanted}
    gone = sorted(was.keys() - now.keys())
    new = sorted(now.keys() - was.keys())
    other = sorted(path for path in was.keys() & now.keys() if was[path] != now[path])
    named = [
        f"{len(paths)} {verb} (such as {paths[0]})"
        for verb, paths in (("missing", gone), ("new", new), ("modified", other))
        if paths
    ]
    return f"of {len(stored)} input files: {', '.join(named) or 'another order'}"
