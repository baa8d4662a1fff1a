"""From a command line or a config file to a load that can be run, checked before it starts."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from engine.config import Config
from engine.config_file import read_config
from engine.errors import Failed, InvalidConfig
from load_tests.payloads.sample import read_sample
from load_tests.payloads.wire import WIRES, Wire
from load_tests.results.result import Load, LoadResult
from load_tests.shapes import Shape
from load_tests.target import Target, parse_url

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)")
_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Wishes:
    """Options of the command line; empty or ``None`` where the config decides."""

    sample: str = ""
    model: str = ""
    users: int | None = None
    duration: str = ""
    rate: float = 0.0
    rows_per_request: int | None = None
    shape: str = "constant"
    processes: int | None = None
    generator: str = "locust"
    wire: str = "rows"
    deadline: str = ""
    grpc_port: int | None = None


def plan_load(place: str, wishes: Wishes) -> tuple[Load, str]:
    """The load to run and the sample to draw from.

    Args:
        place: URL of an engine, or path of its config file.
        wishes: Options of the command line.

    Raises:
        InvalidConfig, NotFound, InvalidTable, Failed: What is wrong, before any load is sent.
    """
    target, config = _target(place)
    defaults = config.load
    sample = wishes.sample or defaults.sample
    if not sample:
        raise InvalidConfig("expected --sample with Parquet to draw rows from, got none")
    _one_of("--shape", wishes.shape, get_args(Shape))
    _one_of("--wire", wishes.wire, WIRES)
    _one_of("--generator", wishes.generator, ("locust", "fast"))
    if wishes.wire == "grpc" and wishes.generator == "fast":
        raise InvalidConfig("expected --generator locust for --wire grpc; the fast one speaks HTTP/1.1 only")
    model = wishes.model or target.only_model()
    read_sample(sample, target.features(model), max_rows=1)
    grpc_port = wishes.grpc_port or config.serve.grpc_port or target.port + 1
    if wishes.wire == "grpc":
        target.check_grpc(grpc_port)
    return Load(
        url=target.url,
        model=model,
        wire=cast("Wire", wishes.wire),
        generator=wishes.generator,
        duration_s=parse_duration(wishes.duration) if wishes.duration else defaults.duration_s,
        rows_per_request=wishes.rows_per_request or defaults.rows_per_request,
        users=wishes.users or defaults.users,
        rate=wishes.rate or None,
        shape=cast("Shape", wishes.shape),
        processes=wishes.processes or defaults.processes,
        deadline_s=parse_duration(wishes.deadline) if wishes.deadline else None,
        grpc_port=grpc_port,
    ), sample


def parse_duration(text: str) -> float:
    """Seconds of ``10``, ``10s``, ``50ms``, ``1.5m`` or ``2h``."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise InvalidConfig(f"expected a duration such as 10s, 50ms, 2m or 1h, got {text!r}")
    return float(match[1]) * _UNITS_S[match[2]]


def check_answered(result: LoadResult) -> None:
    """Raise ``Failed`` where no request at all was answered: such a run says nothing."""
    if result.ok:
        return
    reasons = "; ".join(f"{count} × {reason}" for reason, count in list(result.errors.items())[:3])
    raise Failed(
        f"expected answers from {result.load.url}, got none to {result.requests} requests"
        f" ({result.shed} shed, {result.failed} failed{': ' + reasons if reasons else ''})"
    )


def _target(place: str) -> tuple[Target, Config]:
    path = Path(place)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        config = read_config(path)
        return Target(config.serve.host, config.serve.port), config
    return parse_url(place), Config()


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidConfig(f"expected {option} to be one of {', '.join(known)}, got {value!r}")
