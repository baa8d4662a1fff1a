"""Open Inference Protocol v2 requests: decoded, checked, and turned into a model's block of rows.

A model's rows come as one tensor per feature, ``[n]`` or ``[n, 1]``, or as one numeric matrix
``[n, features]``. Scores are one tensor, ``[n]``, or ``[n, outputs]`` where there are several.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated

import msgspec

from engine.errors import BodyTooLarge, InvalidRequest
from engine.prepare.preparer import FEW_ROWS, Preparer
from engine.prepare.rows import Prepared
from engine.realtime.doors.pieces import MALFORMED
from engine.realtime.doors.tensors import (
    DATATYPES,
    FLOATS,
    Values,
    as_array,
    as_floats,
    from_bytes,
    from_json,
)

Dimension = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Parameters = dict[str, str | int | float | bool]
NO_DATA = msgspec.Raw(b"")


class InputTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One input of an infer request; ``data`` is absent, or null, where it follows as bytes."""

    name: str
    shape: Annotated[tuple[Dimension, ...], msgspec.Meta(max_length=16)]
    datatype: str
    parameters: Parameters | None = {}
    data: msgspec.Raw = NO_DATA


class RequestedOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One output that a request asks for."""

    name: str
    parameters: Parameters | None = {}


class InferRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The JSON of an infer request."""

    inputs: tuple[InputTensor, ...]
    id: str | None = None
    parameters: Parameters | None = {}
    outputs: tuple[RequestedOutput, ...] | None = None


_REQUEST = msgspec.json.Decoder(InferRequest)
_NO_SEQUENCES = "every row is scored alone, sequences are not kept"
REFUSED_PARAMETERS = {
    "sequence_id": _NO_SEQUENCES,
    "sequence_start": _NO_SEQUENCES,
    "sequence_end": _NO_SEQUENCES,
    "priority": "requests are scored in the order of their arrival; 'timeout' says how long one may wait",
}
"""Parameters whose promise the engine cannot keep, and why; 0, false and empty text promise nothing."""
HONOURED_PREFIXED = "triton_enable_empty_final_response"


class Tensor(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One input, its values in one dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Values


def decode_request(body: bytes | memoryview) -> InferRequest:
    """The request in a JSON body; raises ``InvalidRequest`` naming the place."""
    try:
        request = _REQUEST.decode(body)
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply for an infer request") from None
    except MALFORMED as error:
        raise InvalidRequest(f"the body is no infer request: {error}") from error
    if request.parameters:
        check_parameters(request.parameters)
    return request


def check_parameters(parameters: Mapping[str, object]) -> None:
    """Raise ``InvalidRequest`` for a parameter of a request whose promise cannot be kept."""
    for name, value in parameters.items():
        if value and name in REFUSED_PARAMETERS:
            raise InvalidRequest(f"parameter '{name}': {REFUSED_PARAMETERS[name]}")
        if name.startswith("triton_") and name != HONOURED_PREFIXED:
            raise InvalidRequest(f"parameter '{name}': names that begin with triton_ are reserved")


def check_inputs(names: Sequence[str], features: Collection[str]) -> None:
    """Raise ``InvalidRequest`` unless inputs are one, of any name, or features, each once."""
    seen = set()
    for name in names if len(names) > 1 else ():
        if name in seen:
            raise InvalidRequest(f"input '{name}' is there twice")
        if name not in features:
            raise InvalidRequest(f"input '{name}' is no feature of the model")
        seen.add(name)


def read_tensors(request: InferRequest, blobs: memoryview, native: Mapping[str, str]) -> list[Tensor]:
    """The inputs of a request in order. Nothing is allocated by a shape, only by what came.

    Args:
        request: The decoded JSON.
        blobs: The bytes after it, the binary inputs' values in their order.
        native: The datatype that each feature has anyway; JSON of it stays a list, which its rule reads,
            and so do a few numbers of a feature of floats.
    """
    if len(request.inputs) > 1:
        check_inputs([tensor.name for tensor in request.inputs], native)
    tensors, at = [], 0
    for tensor in request.inputs:
        _check(tensor)
        count = math.prod(tensor.shape)
        size = tensor.parameters.get("binary_data_size") if tensor.parameters else None
        values: Values
        if size is None:
            values = from_json(tensor.data, tensor.datatype, count, tensor.name)
            datatype = native.get(tensor.name)
            if datatype != tensor.datatype and tensor.datatype != "BYTES":
                few_floats = count <= FEW_ROWS and datatype in FLOATS and tensor.datatype in FLOATS
                convert = as_floats if few_floats else as_array
                values = convert(values, tensor.datatype, tensor.name)
        else:
            blob = _blob(tensor, size, blobs, at)
            values = from_bytes(blob, tensor.datatype, count, tensor.name)
            at += len(blob)
        tensors.append(Tensor(tensor.name, tensor.datatype, tensor.shape, values))
    if at != len(blobs):
        raise InvalidRequest(
            f"unexpected additional input data: {len(blobs) - at} bytes after the last input"
        )
    return tensors


def _check(tensor: InputTensor) -> None:
    if tensor.datatype not in DATATYPES:
        raise InvalidRequest(
            f"input '{tensor.name}' has datatype '{tensor.datatype}'; known are {', '.join(DATATYPES)}"
        )
    if not tensor.parameters:
        if not len(tensor.data):
            raise InvalidRequest(f"input '{tensor.name}' has neither data nor binary_data_size")
        return
    for name in tensor.parameters:
        if name.startswith("shared_memory_"):
            raise InvalidRequest(f"input '{tensor.name}': shared memory regions are not served here")
    lacks_data = len(tensor.data) in (0, 4) and bytes(tensor.data) in (b"", b"null")
    if lacks_data != ("binary_data_size" in tensor.parameters):
        raise InvalidRequest(f"expected one of data and binary_data_size in input '{tensor.name}'")


def _blob(tensor: InputTensor, size: object, blobs: memoryview, at: int) -> memoryview:
    if type(size) is not int or size < 0:
        raise InvalidRequest(
            f"expected a count of bytes in binary_data_size of input '{tensor.name}', got {size!r}"
        )
    if size > len(blobs) - at:
        raise InvalidRequest(
            f"input '{tensor.name}' declares {size} bytes, but only {len(blobs) - at} are left in the body"
        )
    return blobs[at : at + size]


def block_of(
    tensors: list[Tensor], preparer: Preparer, features: Mapping[str, str], max_rows: int
) -> Prepared:
    """The prepared block ``[n, features]`` of a request's inputs, and its bad rows with reasons.

    Args:
        tensors: The inputs.
        preparer: Makes the block.
        features: Datatype by name.
        max_rows: More are refused.
    """
    if len(tensors) == 1 and _is_matrix(tensors[0], features):
        return _of_matrix(tensors[0], preparer, len(features), max_rows)
    n_rows = _common_rows(tensors)
    if n_rows > max_rows:
        raise too_many_rows(n_rows, max_rows)
    values = {tensor.name: tensor.values for tensor in tensors}
    unknown = values.keys() - features.keys()
    if unknown:
        raise InvalidRequest(f"input '{min(unknown)}' is no feature of the model")
    return preparer.tensors(values)


def too_many_rows(n_rows: int, max_rows: int) -> BodyTooLarge:
    """The error of a request with more rows than the engine takes at once."""
    return BodyTooLarge(
        f"the request has {n_rows} rows, at most {max_rows} are taken at once; send them in parts"
    )


def _is_matrix(tensor: Tensor, features: Mapping[str, str]) -> bool:
    return len(tensor.shape) == 2 and (tensor.name not in features or tensor.shape[1] != 1)


def _of_matrix(tensor: Tensor, preparer: Preparer, n_features: int, max_rows: int) -> Prepared:
    n_rows, n_columns = tensor.shape
    if n_columns != n_features:
        raise InvalidRequest(
            f"expected shape [n, {n_features}] of input '{tensor.name}', got {list(tensor.shape)};"
            " or send one tensor per feature"
        )
    if n_rows > max_rows:
        raise too_many_rows(n_rows, max_rows)
    if tensor.datatype == "BYTES":
        raise InvalidRequest(
            f"input '{tensor.name}' is BYTES, but a matrix is numeric; send one tensor per feature"
        )
    values = tensor.values
    if isinstance(values, list):
        values = as_array(values, tensor.datatype, tensor.name)
    return preparer.matrix(values.reshape(tensor.shape))


def _common_rows(tensors: list[Tensor]) -> int:
    rows: int | None = None
    for tensor in tensors:
        shape = tensor.shape
        if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
            raise InvalidRequest(f"expected shape [n] or [n, 1] of input '{tensor.name}', got {list(shape)}")
        if rows is not None and shape[0] != rows:
            raise InvalidRequest(f"input '{tensor.name}' has {shape[0]} rows, '{tensors[0].name}' has {rows}")
        rows = shape[0]
    if rows is None:
        raise InvalidRequest("expected inputs, got none")
    return rows


def check_outputs(request: InferRequest, name: str) -> None:
    """The only output a request may ask for is ``name``, once, as JSON or bytes."""
    if not request.outputs:
        return
    refuse_outputs([output.name for output in request.outputs], name, request.outputs[0].parameters or ())


def refuse_outputs(asked: Sequence[str], name: str, parameters: Iterable[str]) -> None:
    """Raise unless ``name`` alone is asked for, or nothing in particular, with parameters that are served."""
    for output in asked:
        if output != name:
            raise InvalidRequest(f"no output '{output}'; the model answers '{name}'")
    if len(asked) > 1:
        raise InvalidRequest(f"output '{name}' is asked for {len(asked)} times")
    for parameter in parameters:
        if parameter == "classification" or parameter.startswith("shared_memory_"):
            raise InvalidRequest(f"parameter '{parameter}' of output '{name}' is not served here")
