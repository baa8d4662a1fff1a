"""Does an output hold what its manifest says, bit for bit? Drawn units are scored again, also by wire."""

import random
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from engine.batch.filesystem import open_filesystem
from engine.batch.isolation import REASON_KILLED
from engine.batch.layout import REASON
from engine.batch.manifest import JobRecord, OutputManifest, Part
from engine.batch.output import open_output
from engine.batch.plan import Unit
from engine.batch.planning import make_plan
from engine.batch.records import Records
from engine.batch.work import Work, make_work
from engine.batch.writing import QUARANTINE, by_partition
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
        differing: Of them, those whose score has other bits, is missing, or is one too many.
        wire_rows: Rows sent to an endpoint.
        wire_differing: Of them, those answered with other bits than the batch path's.
    """

    rows: int
    differing: int
    wire_rows: int = 0
    wire_differing: int = 0

    def plus(self, other: "Verification") -> "Verification":
        """Both together."""
        return Verification(
            self.rows + other.rows,
            self.differing + other.differing,
            self.wire_rows + other.wire_rows,
            self.wire_differing + other.wire_differing,
        )


def verify(output: str, *, n_rows: int, url: str = "", seed: int = 0) -> Verification:
    """Score units of the last job at an output again, until so many rows are compared.

    Args:
        output: Where ``score_files`` published.
        n_rows: Rows to compare, at least, if there are as many.
        url: An endpoint that serves the model; its answers are compared too.
        seed: Chooses the units.

    Raises:
        NotFound: There is no output.
        InvalidConfig: ``url`` is none.
        JobChanged: The bundle or the input is not what the manifest names.
    """
    if url and not url.startswith(("http://", "https://")):
        raise InvalidConfig(f"expected a URL such as http://127.0.0.1:8080, got '{url}'")
    manifest = open_output(output).manifest()
    if manifest is None:
        raise NotFound(f"expected a published output, found none - at {output}")
    work = work_again(manifest.jobs[-1], output)
    units = [unit for unit in work.plan.units if unit.rows]
    random.Random(seed).shuffle(units)  # noqa: S311 (chooses a sample)
    total = Verification(0, 0)
    for unit in units:
        if total.rows >= n_rows:
            break
        total = total.plus(_compare_unit(work, unit, output, manifest))
        if url and total.wire_rows < n_rows:
            total = total.plus(_compare_wire(work, unit, url, n_rows - total.wire_rows))
    return total


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
        )
    records = Records.of(open_output(output).store(record.job), plan)
    return make_work(plan, records, bundle.manifest.schema)


def differing_rows(expected: pa.Table, found: pa.Table) -> int:
    """Rows whose values have other bits (NaN equals NaN), with those that are missing or too many."""
    n = min(expected.num_rows, found.num_rows)
    differs = np.zeros(n, bool)
    for a, b in zip(expected.columns, found.columns, strict=True):
        same = pc.fill_null(pc.equal(_bits(a.slice(0, n)), _bits(b.slice(0, n))), False)
        both_null = pc.and_(pc.is_null(a.slice(0, n)), pc.is_null(b.slice(0, n)))
        differs |= ~np.asarray(pc.or_(same, both_null))
    return int(differs.sum()) + abs(expected.num_rows - found.num_rows)


def _compare_unit(work: Work, unit: Unit, output: str, manifest: OutputManifest) -> Verification:
    filesystem, root = open_filesystem(output)
    prefix = work.layout.file_name(unit).removesuffix(".parquet")
    stored = {
        directory(part): f"{root}/{part.path}"
        for part in manifest.parts
        if part.path.rpartition("/")[2].startswith(prefix)
    }
    found = Verification(0, 0)
    for name, table in _scored(work, unit).items():
        there = _stored(filesystem, stored[name], table.column_names) if name in stored else None
        differing = table.num_rows if there is None else differing_rows(table, there)
        found = found.plus(Verification(table.num_rows, differing))
    return found


def _stored(filesystem: fs.FileSystem, path: str, columns: Sequence[str]) -> pa.Table | None:
    """Columns of a part; None if it is lost or cut short."""
    try:
        with filesystem.open_input_file(path) as source:
            return pq.read_table(source).select(columns)
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    except OSError as error:
        raise StorageFailed(f"expected intact pages, got others - at {path}: {error}") from error


def directory(part: Part) -> str:
    """The partition's directory of a part, without a version prefix; with a slash at its end, or empty."""
    names = [name for name in part.path.split("/")[:-1] if "=" in name or name == QUARANTINE]
    return "".join(f"{name}/" for name in names)


def _scored(work: Work, unit: Unit) -> dict[str, pa.Table]:
    tables: dict[str, list[pa.Table]] = {}
    for _, scored in work.score_all(unit, work.read(unit)):
        good = scored
        if work.layout.quarantine and REASON in scored.column_names:
            good = scored.filter(pc.field(REASON).is_null())
        for name, rows in by_partition(good, work.layout.partition_by):
            if rows.num_rows:
                tables.setdefault(name, []).append(work.layout.output(rows))
    return {name: pa.concat_tables(found) for name, found in tables.items()}


def _compare_wire(work: Work, unit: Unit, url: str, n_rows: int) -> Verification:
    scorer = work.scorer.scorer
    found = Verification(0, 0)
    for _, table in work.read(unit):
        for start in range(0, min(table.num_rows, n_rows - found.wire_rows), WIRE_ROWS):
            rows = table.select(scorer.schema.names).slice(start, WIRE_ROWS).combine_chunks()
            answer = ask(f"{url.rstrip('/')}/v1/models/{scorer.manifest.name}/score", rows)
            wrong = differing_rows(scorer.score(rows, on_bad_row="null"), answer)
            found = found.plus(Verification(0, 0, rows.num_rows, wrong))
    return found


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


def _bits(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_float32(column.type):
        return column.combine_chunks().view(pa.int32())
    return column.combine_chunks().view(pa.int64()) if pa.types.is_float64(column.type) else column
