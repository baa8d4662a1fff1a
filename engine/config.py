"""What the config file holds, as frozen values: every key with its type, bounds and default.

``configs/example.yaml`` lists them all, ``config_file`` reads it. Options of the command line bear the same
names. The tree stops at the wiring: functions receive the values they need, never a ``Config``.
"""

import re
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from engine.bundle import DeviceChoice, ModelName

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
"""A TCP port; 0 lets the system choose a free one."""
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
NO_MODEL = "stats"
"""The one name that a path takes for something else."""
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Mode = Literal["error", "overwrite", "append"]


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The latency promised: 99 of 100 answers within ``p99_ms`` milliseconds of their arrival."""

    p99_ms: Annotated[float, msgspec.Meta(gt=0)] = 20.0


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model to serve: the directory of its bundle, and its own promise if it has one."""

    bundle: str
    slo: Slo | None = None


class Serve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Real-time scoring.

    Attributes:
        host: Address to listen on. Anything but loopback opens the engine to the network.
        port: The direct lane, shared by all replicas of a node.
        grpc_port: The same protocol over gRPC, shared likewise; none if left out.
        ingress_port: Ray Serve's ingress (HAProxy); unused with ``local``.
        device: ``bundle`` (what the model was packed for), ``cpu``, ``cuda`` (a GPU), or ``auto``: a GPU, if
            there is one, where it is faster.
        replicas: Processes that score, at most one per core is useful.
        max_replicas: More than ``replicas`` lets Ray start more of them under load.
        slo: Promise for models without one of their own.
        max_body_bytes: Larger request bodies are refused (413), compressed or not.
        max_rows: More rows in one request are refused.
        max_batch_rows: Most rows scored in one call of a model.
        keep_alive_s: An idle connection is closed after this time.
        drain_s: At the end, how long answers under way may take.
        access_log: One structured line per request on stderr, without row values.
        repository_api: Whoever reaches the port may have a model loaded again from its path.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    grpc_port: Port | None = None
    ingress_port: Port = 8000
    device: DeviceChoice = "bundle"
    replicas: Count = 1
    max_replicas: Count | None = None
    slo: Slo = Slo()
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 16 << 20
    max_rows: Count = 65_536
    max_batch_rows: Count = 1024
    keep_alive_s: Seconds = 75.0
    drain_s: Seconds = 10.0
    access_log: bool = False
    repository_api: bool = False


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scoring of Parquet.

    Attributes:
        runner: ``local`` scores in this process, ``ray`` on a cluster, ``auto`` by the job's size.
        device: ``bundle`` (what the model was packed for), ``cpu``, ``cuda`` (a GPU), or ``auto``: a GPU, if
            there is one, where it is faster.
        keep: Input columns to write beside the score.
        mode: What to do where the output holds a result: ``error``, ``overwrite`` or ``append``.
        where: Score only rows that meet this condition, such as ``month >= 11``.
        limit: Score only so many first rows of the input; 0 for all.
        on_bad_row: ``fail`` stops the job, ``null`` writes a null score, ``quarantine`` sets the
            row aside with the reason.
        max_bad_fraction: A larger share of bad rows fails the job.
        partition_by: Input columns whose values become directories of the output.
        unit_rows: Rows committed at once, an output file; small inputs are merged up to it, large ones split.
        file_bytes: A unit of more bytes is written as several files of about so many; 0 for one file.
        compression: Codec of the output files.
        threads: Units scored at once by ``local``; 0 for one per core.
    """

    runner: Literal["auto", "local", "ray"] = "auto"
    device: DeviceChoice = "bundle"
    keep: tuple[str, ...] = ()
    mode: Mode = "error"
    where: str = ""
    limit: Annotated[int, msgspec.Meta(ge=0)] = 0
    on_bad_row: Literal["fail", "null", "quarantine"] = "fail"
    max_bad_fraction: Fraction = 1.0
    partition_by: tuple[str, ...] = ()
    unit_rows: Count = 1_048_576
    file_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    compression: Literal["snappy", "zstd", "lz4", "none"] = "snappy"
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0


class Jobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Batch jobs that a running engine takes.

    Attributes:
        port: Where ``tandem submit`` and the REST interface reach it.
        directory: Keeps the list of jobs and their logs; the next engine goes on with them.
        max_running: Jobs under way at once; the others wait.
        max_queued: Jobs that may wait; one more is refused.
    """

    port: Port = 8090
    directory: str = ".tandem/jobs"
    max_running: Count = 1
    max_queued: Count = 1000


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Load tests.

    Attributes:
        users: Concurrent users, each with one request under way.
        duration_s: How long to measure.
        processes: Locust worker processes.
        rows_per_request: Rows in each request.
        sample: Parquet file or folder that rows are drawn from.
    """

    users: Count = 16
    duration_s: Seconds = 10.0
    processes: Count = 1
    rows_per_request: Count = 1
    sample: str = ""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole config file; every section may be left out."""

    models: dict[ModelName, Model] = {}
    serve: Serve = Serve()
    batch: Batch = Batch()
    jobs: Jobs = Jobs()
    load: Load = Load()

    def __post_init__(self) -> None:
        if NO_MODEL in self.models:
            raise ValueError(
                f"no model can be served as '{NO_MODEL}', for /v2/models/{NO_MODEL} tells of all models;"
                " give it another name"
            )


def in_words(error: msgspec.ValidationError, kind: Any) -> str:
    """The sentence of an error in decoding ``kind``; msgspec does not say which keys or values there are."""
    found = re.match(
        r"(Invalid enum value|Object contains unknown field) .*?(?: - at `\$(.*)`)?$", str(error)
    )
    if found is None:
        return str(error)
    place = _type_at(kind, found[2] or "")
    fields = found[1].endswith("field")
    known = [field.encode_name for field in msgspec.structs.fields(place)] if fields else get_args(place)
    return f"{error}; expected one of {', '.join(known)}"


def _type_at(kind: Any, path: str) -> Any:
    """The type at a path such as ``.models[...].slo`` in values of another."""
    for name in re.findall(r"\.(\w+)|\[", path):
        kind = _what_may_be_left_out(kind)
        kind = get_type_hints(kind)[name] if name else _held_by(kind)
    return _what_may_be_left_out(kind)


def _what_may_be_left_out(kind: Any) -> Any:
    if get_origin(kind) not in (Union, UnionType):
        return kind
    return next(part for part in get_args(kind) if part not in (NoneType, msgspec.UnsetType))


def _held_by(kind: Any) -> Any:
    """What a list, a tuple or a mapping holds."""
    return [part for part in get_args(kind) if part is not ...][-1]
