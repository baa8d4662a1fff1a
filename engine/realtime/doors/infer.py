"""The Open Inference Protocol door: an infer request in, scores as a JSON or binary tensor out."""

from typing import Any

import msgspec
import numpy as np

from engine.errors import InvalidRequest
from engine.realtime.batching.waiting import Result
from engine.realtime.doors.answers import JSON, Answer, Headers
from engine.realtime.doors.calls import Asked, Call, budget_s
from engine.realtime.doors.oip import (
    InferRequest,
    Tensor,
    block_of,
    check_outputs,
    decode_request,
    read_tensors,
)
from engine.realtime.doors.tensors import from_bytes
from engine.realtime.serving.served import Revision, explain

_encode = msgspec.json.encode
OCTETS = (b"content-type", b"application/octet-stream")
RAW_LENGTH_DIGITS = 12
"""A header length of more digits is no length of ours."""


def read(revision: Revision, call: Call) -> Asked:
    """What an infer request asks; raises ``InvalidRequest``."""
    request, tensors = _read(revision, call)
    X, bad = block_of(tensors, revision.preparer, revision.datatypes, call.max_rows)
    within_s = budget_s(request.parameters, call.timeout_s) if request.parameters else call.timeout_s
    return Asked(X, bad, within_s, (request, call.json_length == b"0" or _wants_bytes(request)))


def json_of(call: Call) -> bytes:
    """The part of a body that is JSON; raises ``InvalidRequest`` if its length is none."""
    if call.json_length is None:
        return call.body
    return call.body[: _json_length(call.json_length, len(call.body))]


def write(revision: Revision, asked: Asked, result: Result) -> Answer:
    """The answer, in the form that was asked for."""
    request, in_bytes = asked.request
    if in_bytes:
        return _answer_in_bytes(revision, request, result)
    return Answer(200, [JSON], _json_body(revision, request, result))


def _read(revision: Revision, call: Call) -> tuple[InferRequest, list[Tensor]]:
    if call.json_length is None:
        request = decode_request(call.body)
        tensors = read_tensors(request, _NOTHING, revision.datatypes)
    elif call.json_length == b"0":
        request = InferRequest(())
        tensors = [_raw_matrix(revision, call.body)]
    else:
        length = _json_length(call.json_length, len(call.body))
        request = decode_request(memoryview(call.body)[:length])
        tensors = read_tensors(request, memoryview(call.body)[length:], revision.datatypes)
    check_outputs(request, revision.output.name)
    return request, tensors


def _json_length(header: bytes, size: int) -> int:
    if not header.isdigit() or len(header) > RAW_LENGTH_DIGITS:
        raise InvalidRequest(
            f"Inference-Header-Content-Length is no count of bytes: '{header[:40].decode('latin-1')}'"
        )
    if int(header) > size:
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {int(header)}, but the body has {size} bytes"
        )
    return int(header)


def _raw_matrix(revision: Revision, body: bytes) -> Tensor:
    """The whole body as rows of the block's type: the form without any JSON."""
    dtype, n_features = revision.schema.dtype, len(revision.schema.features)
    n_rows, rest = divmod(len(body), dtype.itemsize * n_features)
    if rest:
        raise InvalidRequest(
            f"expected rows of {n_features} {dtype} in {dtype.itemsize * n_features} bytes,"
            f" got {len(body)} bytes"
        )
    datatype = "FP32" if dtype == np.float32 else "FP64"
    values = from_bytes(memoryview(body), datatype, n_rows * n_features, "rows")
    return Tensor("rows", datatype, (n_rows, n_features), values)


def _wants_bytes(request: InferRequest) -> bool:
    if not request.parameters and not request.outputs:
        return False
    wanted = (request.parameters or {}).get("binary_data_output", False)
    if request.outputs:
        wanted = (request.outputs[0].parameters or {}).get("binary_data", wanted)
    if not isinstance(wanted, bool):
        raise InvalidRequest(f"expected true or false in binary_data and binary_data_output, got {wanted!r}")
    return wanted


def _json_body(revision: Revision, request: InferRequest, result: Result) -> bytes:
    values: list[Any] = result.scores.reshape(-1).tolist()
    if result.bad:
        width = revision.n_outputs
        for row in result.bad:
            values[row * width : (row + 1) * width] = [None] * width
    return b'%b,"data":%b}]}' % (_frame(revision, request, result), _encode(values))


def _answer_in_bytes(revision: Revision, request: InferRequest, result: Result) -> Answer:
    scores = np.ascontiguousarray(result.scores, revision.output_dtype)
    if result.bad:
        scores = scores.copy()
        scores[list(result.bad)] = np.nan
    frame = _frame(revision, request, result)
    text = b'%b,"parameters":{"binary_data_size":%d}}]}' % (frame, scores.nbytes)
    headers: Headers = [OCTETS, (b"inference-header-content-length", b"%d" % len(text))]
    return Answer(200, headers, text + scores.tobytes())


def _frame(revision: Revision, request: InferRequest, result: Result) -> bytes:
    """The JSON of a response up to what its only output still lacks: its data or its size."""
    n_rows = len(result.scores)
    shape = b"[%d]" % n_rows if not revision.output.labels else b"[%d,%d]" % (n_rows, revision.n_outputs)
    middle = b""
    if request.id is not None:
        middle = b'"id":%b,' % _encode(request.id)
    if result.bad:
        middle += b'"parameters":%b,' % _encode({"bad_rows": explain(result.bad)})
    return b"%b%b%b%b" % (revision.infer_head, middle, revision.infer_output, shape)


_NOTHING = memoryview(b"")
