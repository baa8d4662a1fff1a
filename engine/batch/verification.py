"""Does an output hold what its manifest says, bit for bit? Drawn units are scored again, also by wire."""

import hashlib
import random
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.batch.comparison import differing_rows
from engine.batch.filesystem import open_filesystem
from engine.batch.isolation import REASON_KILLED
from engine.batch.layout import PATH, REASON, ROW, SET_ASIDE
from engine.batch.manifest import QUARANTINE, JobRecord, OutputManifest, Part
from engine.batch.output import open_output
from engine.batch.partitions import by_partition
from engine.batch.plan import Unit
from engine.batch.planning import make_plan
from engine.batch.records import Records
from engine.batch.work import Work, make_work
from engine.bundle import read_bundle
from engine.errors import InvalidConfig, JobChanged, NotFound, StorageFailed

ARROW_STREAM = "application/vnd.apache.arrow.stream"
WIRE_ROWS = 1000
"""Rows per request."""
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared.

    Attributes:
        rows: Rows of the output scored again from the input.
        differing: Of them, those that have other bits, are missing, or are one too many; rows that were
            set aside, or ought to have been, among them.
        changed_files: Files of the output, of those that were read, whose bytes are not the manifest's.
        wire_rows: Rows sent to an endpoint.
        wire_differing: Of them, those answered with other bits than the batch path's.
    """

    rows: int = 0
    differing: int = 0
    changed_files: int = 0
    wire_rows: int = 0
    wire_differing: int = 0

    def plus(self, other: "Verification") -> "Verification":
        """Both together."""
        names = [field.name for field in fields(self)]
        return Verification(*(getattr(self, name) + getattr(other, name) for name in names))

    @property
    def is_sound(self) -> bool:
        """Whether nothing differs."""
        return not (self.differing or self.changed_files or self.wire_differing)


def verify(output: str, *, n_rows: int, url: str = "", seed: int = 0, job: str = "") -> Verification:
    """Score units of an output again, until so many rows are compared.

    Args:
        output: Where ``score_files`` published.
        n_rows: Rows to compare, at least, if there are as many.
        url: An endpoint that serves the model; its answers are compared too.
        seed: Chooses the units.
        job: Compare only what this job wrote; by default all jobs that wrote here.

    Raises:
        NotFound: There is no output, or no such job wrote there.
        InvalidConfig: ``url`` is none.
        JobChanged: The bundle or the input of a job is not what the manifest names.
    """
    if url and not url.startswith(("http://", "https://")):
        raise InvalidConfig(f"expected a URL such as http://127.0.0.1:8080, got '{url}'")
    manifest = open_output(output).manifest()
    if manifest is None:
        raise NotFound(f"expected a published output, found none - at {output}")
    works = [work_again(record, output) for record in _records(manifest, job, output)]
    units = [(work, unit) for work in works for unit in work.plan.units if unit.rows]
    random.Random(seed).shuffle(units)  # noqa: S311 (chooses a sample)
    total = Verification()
    for work, unit in units:
        if total.rows >= n_rows:
            break
        total = total.plus(_compare_unit(work, unit, output, manifest))
        if url and work is works[-1] and total.wire_rows < n_rows:  # what is served is the latest model
            total = total.plus(_compare_wire(work, unit, url, n_rows - total.wire_rows))
    return total


def _records(manifest: OutputManifest, job: str, output: str) -> list[JobRecord]:
    found = [record for record in manifest.jobs if job in ("", record.job)]
    if not found:
        names = ", ".join(record.job for record in manifest.jobs)
        raise NotFound(f"no job {job} wrote at {output}; those that did: {names}")
    return found


def work_again(record: JobRecord, output: str) -> Work:
    """The work of a published job, planned anew; raises ``JobChanged`` if that is not possible."""
    if any(REASON_KILLED in reason for reason in record.reasons):
        raise InvalidConfig(f"job {record.job} has rows that kill whoever scores them; not scored again")
    bundle = read_bundle(record.bundle)
    plan = make_plan(bundle, record.bundle, record.inputs, record.options, record.job).plan
    if plan.revision != record.revision or plan.files != record.files:
        changed = "input" if plan.revision == record.revision else "bundle"
        raise JobChanged(
            f"the {changed} of job {record.job} changed since it ran; there is nothing to compare with"
            " (--job compares only one job's rows)"
        )
    return make_work(plan, Records.of(open_output(output).store(record.job), plan), bundle.manifest.schema)


def _compare_unit(work: Work, unit: Unit, output: str, manifest: OutputManifest) -> Verification:
    found, changed = _stored(work, unit, output, manifest)
    rows = differing = 0
    for directory, table in _scored(work, unit).items():
        there = found.pop(directory, table.slice(0, 0))
        rows += table.num_rows
        differing += differing_rows(table, there.select(_known(there, table.column_names)))
    differing += sum(table.num_rows for table in found.values())  # nobody's
    return Verification(rows, differing, changed)


def _known(table: pa.Table, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in table.column_names]


def _stored(work: Work, unit: Unit, output: str, manifest: OutputManifest) -> tuple[dict[str, pa.Table], int]:
    """What the output holds of a unit, by directory, and how many of its files are not the manifest's."""
    filesystem, root = open_filesystem(output)
    tables: dict[str, list[pa.Table]] = {}
    changed = 0
    for part in manifest.parts:
        if not work.layout.is_of(unit, part.path.rpartition("/")[2]):
            continue
        try:
            with filesystem.open_input_file(f"{root}/{part.path}") as source:
                data = source.read_buffer()
        except FileNotFoundError:
            changed += 1
            continue
        except OSError as error:
            raise StorageFailed(f"cannot read {root}/{part.path}: {error}") from error
        changed += hashlib.sha256(data).hexdigest() != part.sha256
        tables.setdefault(directory(part), []).append(_parsed(data, part))
    return {name: _joined(found) for name, found in tables.items()}, changed


def _parsed(data: pa.Buffer, part: Part) -> pa.Table:
    """The table in a file's bytes; an empty one if they are none."""
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError):
        return pa.table({})
    return table.select(_known(table, SET_ASIDE)) if part.is_set_aside else table


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables one below the other; an empty one if they are not alike."""
    try:
        return pa.concat_tables(tables)
    except pa.ArrowException:
        return pa.table({})


def directory(part: Part) -> str:
    """The partition's directory of a part, without a version prefix; with a slash at its end, or empty."""
    names = [name for name in part.path.split("/")[:-1] if "=" in name or name == QUARANTINE]
    return "".join(f"{name}/" for name in names)


def _scored(work: Work, unit: Unit) -> dict[str, pa.Table]:
    """What the output ought to hold of a unit, by directory; of rows set aside their places and reasons."""
    tables: dict[str, list[pa.Table]] = {}
    for _, scored in work.score_all(unit, work.read(unit)):
        good = scored
        if work.layout.quarantine and REASON in scored.column_names:
            good = scored.filter(pc.field(REASON).is_null())
            bad = scored.filter(pc.field(REASON).is_valid()).select([PATH, ROW, REASON])
            tables.setdefault(f"{QUARANTINE}/", []).append(bad.rename_columns(list(SET_ASIDE)))
        for name, rows in by_partition(good, work.layout.partition_by):
            if rows.num_rows:
                tables.setdefault(name, []).append(work.layout.output(rows))
    return {name: pa.concat_tables(found) for name, found in tables.items()}


def _compare_wire(work: Work, unit: Unit, url: str, n_rows: int) -> Verification:
    scorer = work.scorer.scorer
    found = Verification()
    for table in _slices((table for _, table in work.read(unit)), n_rows):
        rows = table.select(scorer.schema.names).combine_chunks()
        answer = ask(f"{url.rstrip('/')}/v1/models/{scorer.manifest.name}/score", rows)
        wrong = differing_rows(scorer.score(rows, on_bad_row="null"), answer)
        found = found.plus(Verification(wire_rows=rows.num_rows, wire_differing=wrong))
    return found


def _slices(tables: Iterable[pa.Table], n_rows: int) -> Iterable[pa.Table]:
    """The first rows of some tables, as many as a request takes at a time."""
    for table in tables:
        for start in range(0, min(table.num_rows, n_rows), WIRE_ROWS):
            yield table.slice(start, WIRE_ROWS)
        n_rows -= table.num_rows
        if n_rows <= 0:
            return


def ask(url: str, rows: pa.Table) -> pa.Table:
    """The scores that an endpoint answers for some rows, over its Arrow door."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    headers = {"Content-Type": ARROW_STREAM}
    request = urllib.request.Request(url, sink.getvalue().to_pybytes(), headers)  # noqa: S310 (the caller's URL)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return pa.ipc.open_stream(answer.read()).read_all()
    except (urllib.error.URLError, pa.ArrowException, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or reason
        raise StorageFailed(f"expected scores from {url}, got: {why}") from error
