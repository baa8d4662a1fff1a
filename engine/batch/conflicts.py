"""What stands in a job's way at its output: another result, its own input, rows of other columns."""

import os
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from engine.batch.filesystem import is_object_store, open_filesystem
from engine.batch.fragments import would_list
from engine.batch.layout import Layout
from engine.batch.manifest import JobRecord, OutputManifest
from engine.batch.plan import Plan
from engine.config import Mode
from engine.errors import InvalidConfig, JobChanged, OutputExists, StorageFailed


def check_apart(plan: Plan, output: str) -> None:
    """Raise ``InvalidConfig`` if the output would be input the next time, or is already, through a link."""
    written = _resolved(output)
    inside = [location for location in plan.inputs if would_list(_resolved(location), written)]
    if not is_object_store(output) and not is_object_store(plan.inputs[0]):
        folders = {os.path.dirname(file.path) for file in plan.files}
        inside += [folder for folder in folders if f"{os.path.realpath(folder)}/".startswith(f"{written}/")]
    if inside:
        raise InvalidConfig(
            f"the output {output} lies inside the input {inside[0]}: the next job would score its scores;"
            " choose a place beside it"
        )


def find_record(manifest: OutputManifest, plan: Plan, mode: Mode) -> JobRecord | None:
    """The record of this very job in an output that it need not write again.

    Raises:
        JobChanged: The job's id is that of another one.
        OutputExists: Another job's result is there, and the mode is ``error``; or it is ``append``, and
            some of the input was scored into the output already, in the same way.
    """
    same = [record for record in manifest.jobs if _is_same(record, plan) and record.files == plan.files]
    if same and (mode != "overwrite" or len(manifest.jobs) == 1):
        return same[0]
    if not same and manifest.holds(plan.job):
        raise JobChanged(
            f"job {plan.job} is published at this output, with another bundle, input or options;"
            " give this one an id of its own"
        )
    if mode == "error":
        last = manifest.jobs[-1]
        raise OutputExists(
            f"the output holds the result of job {last.job} ({last.model}, {last.finished});"
            " choose another output, or --mode overwrite or append"
        )
    if mode == "append":
        _check_new(manifest, plan)
    return None


def check_appendable(manifest: OutputManifest, plan: Plan, layout: Layout, output: str) -> None:
    """Raise ``OutputExists`` if what a job appends has other columns or partitions than what is there."""
    there = manifest.jobs[-1].options.partition_by
    if there != plan.options.partition_by:
        raise OutputExists(
            f"the output is partitioned by {_listed(there)}, this job by"
            f" {_listed(plan.options.partition_by)}; append what is alike, or choose another output"
        )
    filesystem, root = open_filesystem(output)
    for part in manifest.parts:
        if part.is_set_aside:
            continue
        try:
            with filesystem.open_input_file(f"{root}/{part.path}") as source:
                found = pq.read_schema(source)
        except (OSError, pa.ArrowException) as error:
            raise StorageFailed(
                f"cannot append: {root}/{part.path} is in the output's manifest and cannot be read: {error};"
                " `tandem verify` tells what is left of it"
            ) from error
        if not found.equals(_as_written(layout.schema)):
            raise OutputExists(
                f"the output has the columns {_described(found)}, this job's are {_described(layout.schema)};"
                " append what has the same, or choose another output"
            )
        return


def _is_same(record: JobRecord, plan: Plan) -> bool:
    return (record.revision, record.options) == (plan.revision, plan.options)


def _check_new(manifest: OutputManifest, plan: Plan) -> None:
    for record in manifest.jobs:
        known = [file for file in plan.files if file in record.files] if _is_same(record, plan) else []
        if known:
            raise OutputExists(
                f"{len(known)} of {len(plan.files)} input files (such as {known[0].path}) were scored into"
                f" this output by job {record.job}; name only those that are new"
            )


def _as_written(schema: pa.Schema) -> pa.Schema:
    """A schema as Parquet keeps it, which has fewer types than Arrow."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    return pq.read_schema(pa.BufferReader(sink.getvalue()))


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _resolved(location: str) -> str:
    """A location with its symbolic links followed, those of a glob up to its first pattern."""
    return location if is_object_store(location) else os.path.realpath(location)
