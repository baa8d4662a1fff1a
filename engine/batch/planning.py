"""Makes the plan of a job from the bundle and the footers of its input, and refuses what cannot work.

Everything that can be known before the first row is read is checked here, with the model's own
rules: a job that starts has its columns, in types that the model takes, in every file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import fs

from engine.batch.filesystem import absolute, is_object_store, open_filesystem
from engine.batch.fragments import Footer, list_files, read_footers
from engine.batch.layout import HIDDEN, SET_ASIDE, plain
from engine.batch.partitions import has_texts
from engine.batch.plan import (
    JOB_ID,
    InputFile,
    Options,
    PartitionType,
    Plan,
    fingerprint,
    spread,
    units_of,
)
from engine.batch.pruning import row_groups_of
from engine.batch.where import columns_of, condition_of
from engine.bundle import Bundle, DeviceChoice
from engine.errors import InvalidConfig, InvalidTable
from engine.prepare.column_types import place_of
from engine.schema import Schema

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_PARTITION_TYPES = {"int64": pa.int64(), "string": pa.string()}


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A plan and what was read to make it."""

    plan: Plan
    filesystem: fs.FileSystem
    footers: list[Footer]


def make_plan(
    bundle: Bundle,
    location: str,
    inputs: Sequence[str],
    options: Options,
    job: str = "",
    device: DeviceChoice = "bundle",
) -> Planned:
    """Plan a job.

    Args:
        bundle: The model.
        location: Where the bundle lies.
        inputs: Files, directories or globs, all on one file system.
        options: What decides the output.
        job: The caller's id for it; by default made from model, options and input listing.
        device: Where margins are to be computed, as somebody chose.

    Raises:
        InvalidTable: A file lacks a column or has it in a wrong type.
        InvalidConfig: An option names what is not there, or the id is none.
        NotFound: No Parquet files.
    """
    if job and not re.fullmatch(JOB_ID, job):
        raise InvalidConfig(
            "expected as a job's id up to 64 letters, digits, dots, dashes and underscores,"
            f" the first a letter or digit, got '{job}'"
        )
    condition_of(options.where)
    places = tuple(absolute(place) for place in inputs)
    if len({is_object_store(place) and place.split("/")[2] for place in places}) > 1:
        raise InvalidConfig(
            f"expected inputs on one file system, got {', '.join(inputs)}; score them in separate jobs"
        )
    files = list_files(places)
    filesystem = open_filesystem(places[0])[0]
    footers = read_footers(filesystem, files)
    types = partition_types(files)
    unit_rows = spread(sum(sum(footer.rows) for footer in footers), options.unit_rows)
    kept = _checked(bundle, files, footers, options, types)
    groups = row_groups_of(filesystem, files, footers, types, options.where)
    plan = Plan(
        job=job or fingerprint(bundle.revision, options, files),
        bundle=absolute(location),
        revision=bundle.revision,
        inputs=places,
        options=options,
        kept_schema=kept.serialize().to_pybytes(),
        partition_types=types,
        files=files,
        units=units_of(groups, unit_rows=unit_rows, limit=options.limit),
        device=bundle.manifest.device_for(device),
    )
    return Planned(plan, filesystem, footers)


def partition_types(files: Sequence[InputFile]) -> dict[str, PartitionType]:
    """The types of the columns that directories carry: integers if all values are, else strings."""
    values: dict[str, list[str]] = {}
    for file in files:
        for name, value in file.partition.items():
            values.setdefault(name, []).extend([] if value is None else [value])
    return {
        name: "int64" if found and all(_INTEGER.fullmatch(value) for value in found) else "string"
        for name, found in values.items()
    }


def _checked(
    bundle: Bundle,
    files: Sequence[InputFile],
    footers: Sequence[Footer],
    options: Options,
    types: dict[str, PartitionType],
) -> pa.Schema:
    """The schema of the kept columns, once every file has been found to fit."""
    _check_names(bundle, options)
    kept: pa.Schema | None = None
    before: pa.Schema | None = None
    for file, footer in zip(files, footers, strict=True):
        if before is not None and footer.schema.equals(before):
            continue
        before = footer.schema
        whole = _with_partitions(footer.schema, types, file)
        _check_features(bundle.manifest.schema, whole, file)
        found = _chosen(whole, options, file)
        if kept is not None and not found.equals(kept):
            raise _drifted(kept, found, file, files[0])
        kept = found
    for name in options.partition_by:
        if kept is not None and not has_texts(kept.field(name).type):
            raise InvalidConfig(
                f"expected a column whose values can name directories, got '{name}' of type"
                f" {kept.field(name).type} in 'partition_by'"
            )
    return kept if kept is not None else pa.schema([])


def _check_names(bundle: Bundle, options: Options) -> None:
    scores = bundle.manifest.schema.output.columns
    names = (*options.keep, *options.partition_by)
    if both := [name for name in options.keep if name in scores]:
        raise InvalidConfig(f"column '{both[0]}' cannot be kept: the score itself is called so")
    if both := [name for name in options.partition_by if name in scores]:
        raise InvalidConfig(f"column '{both[0]}' cannot name directories: the score itself is called so")
    for key, columns in (("keep", options.keep), ("partition_by", options.partition_by)):
        if len(set(columns)) < len(columns):
            raise InvalidConfig(f"expected each column once in '{key}', got {', '.join(columns)}")
    if options.on_bad_row == "quarantine":
        features = bundle.manifest.schema.names
        if taken := [name for name in (*names, *features) if name in SET_ASIDE]:
            raise InvalidConfig(
                f"column '{taken[0]}' bears a name that rows set aside have for their place and reason;"
                " rename it, or choose --on-bad-row null"
            )
    if hidden := [name for name in names if name.startswith(HIDDEN)]:
        raise InvalidConfig(f"column '{hidden[0]}' bears a name that scoring uses itself; rename it")


def _check_features(wanted: Schema, found: pa.Schema, file: InputFile) -> None:
    names = found.names
    if twice := [name for name in set(names) if names.count(name) > 1]:
        raise InvalidTable(f"column '{sorted(twice)[0]}' occurs twice - at {file.path}")
    try:
        for feature in wanted.features:
            place_of(found, feature)
    except InvalidTable as error:
        raise InvalidTable(f"{error} - at {file.path}") from error


def _with_partitions(schema: pa.Schema, types: dict[str, PartitionType], file: InputFile) -> pa.Schema:
    for name, kind in types.items():
        if name in schema.names:
            raise InvalidTable(
                f"column '{name}' is both in the file and in its directory's name - at {file.path}"
            )
        schema = schema.append(pa.field(name, _PARTITION_TYPES[kind]))
    return schema


def _chosen(schema: pa.Schema, options: Options, file: InputFile) -> pa.Schema:
    fields = {field.name: field for field in plain(schema)}
    named = columns_of(options.where)
    for name in (*options.keep, *options.partition_by, *named):
        if name not in fields:
            quotes = "; in a condition, texts are in quotes" if name in named else ""
            raise InvalidTable(
                f"expected a column '{name}', got {', '.join(fields)} - at {file.path}{quotes}"
            )
    return pa.schema([fields[name] for name in dict.fromkeys((*options.keep, *options.partition_by))])


def _drifted(kept: pa.Schema, found: pa.Schema, file: InputFile, first: InputFile) -> InvalidTable:
    pairs = [(a, b) for a, b in zip(kept, found, strict=True) if not a.equals(b)]
    before, after = pairs[0]
    return InvalidTable(
        f"expected '{before.name}' to be {before.type} as in {first.path}, got {after.type} - at {file.path};"
        " files with other types need a job of their own, or leave the column out of 'keep'"
    )
