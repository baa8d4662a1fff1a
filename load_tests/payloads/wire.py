"""Request bodies in the formats the engine speaks, encoded once before the clock starts."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec
import pyarrow as pa

from load_tests.payloads.tensors import binary_request, json_request

Wire = Literal["rows", "oip", "binary", "arrow", "grpc"]
WIRES: tuple[Wire, ...] = ("rows", "oip", "binary", "arrow", "grpc")
MAX_REQUESTS = 4096
"""Different requests of a run; they are sent in turn."""
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to send.

    Attributes:
        path: The target, from the slash on; the method's name for gRPC.
        body: The bytes.
        n_rows: Rows inside.
        headers: Beside Host and Content-Length.
    """

    path: str
    body: bytes
    n_rows: int
    headers: dict[str, str] = field(default_factory=dict)


def encode(wire: Wire, model: str, table: pa.Table, rows_per_request: int) -> list[Request]:
    """The first rows of a table as requests to a model, ``rows_per_request`` in each (fewer in the last).

    ``rows`` is ``{"rows": [{feature: value, …}]}``; ``oip`` one JSON tensor per feature; ``binary``
    the same tensors as raw bytes, one matrix where all features are numbers; ``arrow`` an IPC
    stream; ``grpc`` the body of ``ModelInfer``.
    """
    return list(_ENCODERS[wire](model, table.slice(0, MAX_REQUESTS * rows_per_request), rows_per_request))


def _rows(model: str, table: pa.Table, n_rows: int) -> Iterator[Request]:
    columns = _json_columns(table)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for start in range(0, len(rows), n_rows):
        slab = rows[start : start + n_rows]
        yield Request(f"/v1/models/{model}/score", msgspec.json.encode({"rows": slab}), len(slab), JSON)


def _oip(model: str, table: pa.Table, n_rows: int) -> Iterator[Request]:
    columns, types = _json_columns(table), table.schema.types
    for start in range(0, table.num_rows, n_rows):
        slabs = {name: values[start : start + n_rows] for name, values in columns.items()}
        body, n = json_request(slabs, types)
        yield Request(f"/v2/models/{model}/infer", body, n, JSON)


def _binary(model: str, table: pa.Table, n_rows: int) -> Iterator[Request]:
    for start in range(0, table.num_rows, n_rows):
        slab = table.slice(start, n_rows)
        head, blobs = binary_request(slab)
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
        }
        yield Request(f"/v2/models/{model}/infer", head + blobs, slab.num_rows, headers)


def _arrow(model: str, table: pa.Table, n_rows: int) -> Iterator[Request]:
    headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
    for start in range(0, table.num_rows, n_rows):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.slice(start, n_rows))
        body = sink.getvalue().to_pybytes()
        yield Request(f"/v1/models/{model}/score", body, min(n_rows, table.num_rows - start), headers)


def _grpc(model: str, table: pa.Table, n_rows: int) -> Iterator[Request]:
    from load_tests.payloads.grpc_request import infer_request

    for start in range(0, table.num_rows, n_rows):
        slab = table.slice(start, n_rows)
        yield Request("ModelInfer", infer_request(model, slab), slab.num_rows)


def _json_columns(table: pa.Table) -> dict[str, Sequence[Any]]:
    columns = zip(table.column_names, table.columns, strict=True)
    return {name: [_json_value(value) for value in column.to_pylist()] for name, column in columns}


def _json_value(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


_ENCODERS: dict[str, Callable[[str, pa.Table, int], Iterator[Request]]] = {
    "rows": _rows,
    "oip": _oip,
    "binary": _binary,
    "arrow": _arrow,
    "grpc": _grpc,
}


def with_deadline(requests: list[Request], deadline_s: float | None) -> list[Request]:
    """Requests that say how long they wait at most."""
    if deadline_s is None:
        return requests
    header = {"Tandem-Timeout-S": f"{deadline_s:g}"}
    return [replace(request, headers={**request.headers, **header}) for request in requests]


def raw(request: Request, host: str, port: int) -> bytes:
    """The request's bytes on an HTTP/1.1 connection, head and body."""
    headers = {"Host": f"{host}:{port}", "Content-Length": str(len(request.body)), **request.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {request.path} HTTP/1.1\r\n{head}\r\n".encode() + request.body
