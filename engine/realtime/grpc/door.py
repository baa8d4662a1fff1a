"""The gRPC door: protobuf tensors in, scores out. Raw in, raw out; typed contents in, typed out."""

import math
from typing import Any

import numpy as np

from engine.errors import InvalidRequest
from engine.realtime.batching.waiting import Result
from engine.realtime.doors.calls import Asked, budget_s
from engine.realtime.doors.door import RAW_BYTES, TEXT_BYTES
from engine.realtime.doors.oip import Tensor, block_of, check_inputs, check_parameters, refuse_outputs
from engine.realtime.doors.tensors import DATATYPES, from_bytes, from_values
from engine.realtime.grpc.messages import message
from engine.realtime.serving.served import Revision, explain

Response = message("ModelInferResponse")

CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where a datatype's values lie in ``InferTensorContents``; FP16 has no place, it is raw only."""
AS_IN_MEMORY = frozenset({"BOOL", "FP32", "FP64"})
"""Datatypes whose values protobuf writes, one after the other, as NumPy has them."""


def is_large(request: Any, n_bytes: int) -> bool:
    """Whether to read a ``ModelInferRequest`` of so many bytes, and to answer it, beside the event loop.

    Typed contents become Python's values one by one, as texts do.
    """
    if n_bytes <= TEXT_BYTES:
        return False
    seen_in_place = request.raw_input_contents and all(one.datatype != "BYTES" for one in request.inputs)
    return not seen_in_place or n_bytes > RAW_BYTES


def read(revision: Revision, request: Any, timeout_s: float, max_rows: int) -> Asked:
    """What a ``ModelInferRequest`` asks; raises ``InvalidRequest``."""
    parameters = _parameters(request.parameters)
    if request.outputs:
        names = [output.name for output in request.outputs]
        refuse_outputs(names, revision.output.name, request.outputs[0].parameters)
    check_inputs([tensor.name for tensor in request.inputs], revision.datatypes)
    X, bad = block_of(_tensors(request), revision.preparer, revision.datatypes, max_rows)
    return Asked(X, bad, budget_s(parameters, timeout_s), request)


def _parameters(given: Any) -> dict[str, Any]:
    if not given:
        return {}
    parameters = {}
    for name, value in given.items():
        choice = value.WhichOneof("parameter_choice")
        parameters[name] = getattr(value, choice) if choice else None
    check_parameters(parameters)
    return parameters


def _tensors(request: Any) -> list[Tensor]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequest(f"expected raw_input_contents for {len(request.inputs)} inputs, got {len(raw)}")
    return [_tensor(tensor, raw[place] if raw else None) for place, tensor in enumerate(request.inputs)]


def _tensor(tensor: Any, raw: bytes | None) -> Tensor:
    name, datatype, shape = tensor.name, tensor.datatype, tuple(tensor.shape)
    if datatype not in DATATYPES:
        raise InvalidRequest(f"input '{name}' has datatype '{datatype}'; known are {', '.join(DATATYPES)}")
    if any(size < 0 for size in shape):
        raise InvalidRequest(f"input '{name}' has a negative size in shape {list(shape)}")
    for parameter in tensor.parameters:
        if parameter.startswith("shared_memory_"):
            raise InvalidRequest(f"input '{name}': shared memory regions are not served here")
    count = math.prod(shape)
    if raw is None:
        return Tensor(name, datatype, shape, _contents(tensor.contents, datatype, count, name))
    if tensor.HasField("contents"):
        raise InvalidRequest(f"input '{name}' has contents, but the request has raw_input_contents")
    return Tensor(name, datatype, shape, from_bytes(memoryview(raw), datatype, count, name))


def _contents(contents: Any, datatype: str, count: int, name: str) -> Any:
    place = CONTENTS.get(datatype)
    if place is None:
        raise InvalidRequest(f"input '{name}' is {datatype}, which only raw_input_contents can hold")
    for field, _ in contents.ListFields():
        if field.name != place:
            raise InvalidRequest(f"expected {datatype} of input '{name}' in {place}, got {field.name}")
    values = getattr(contents, place)
    if len(values) != count:
        raise InvalidRequest(f"expected {count} values by the shape of input '{name}', got {len(values)}")
    if datatype in AS_IN_MEMORY:
        return _as_written(contents, datatype, count)
    if datatype != "BYTES":
        return from_values(values, datatype, count, name)
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"BYTES input '{name}' is no UTF-8: {error}") from error


def _as_written(contents: Any, datatype: str, count: int) -> Any:
    """The values of the only field, without a Python object for each: its message ends with them."""
    contents.DiscardUnknownFields()
    dtype, written = DATATYPES[datatype], contents.SerializeToString()
    return np.frombuffer(written, dtype, count, len(written) - count * dtype.itemsize)


def write(revision: Revision, asked: Asked, result: Result) -> Any:
    """The ``ModelInferResponse``."""
    request = asked.request
    scores = np.ascontiguousarray(result.scores, revision.output_dtype)
    if result.bad:
        scores = scores.copy()
        scores[list(result.bad)] = np.nan
    response = Response(model_name=revision.name, model_version=revision.id, id=request.id)
    shape = scores.shape if revision.output.labels else scores.shape[:1]
    output = response.outputs.add(name=revision.output.name, datatype=revision.output_datatype, shape=shape)
    if result.bad:
        response.parameters["bad_rows"].string_param = explain(result.bad)
    if request.raw_input_contents:
        response.raw_output_contents.append(scores.tobytes())
    else:
        getattr(output.contents, CONTENTS[revision.output_datatype]).extend(scores.reshape(-1).tolist())
    return response
