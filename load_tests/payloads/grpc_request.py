"""``ModelInfer`` over gRPC: requests encoded by hand, so that no generated code is needed.

Messages as in the Open Inference Protocol's ``grpc_predict_v2.proto``: ``ModelInferRequest`` has
the model's name in field 1, the inputs in 5 and their raw bytes in 7.
"""

import grpc
import pyarrow as pa

from load_tests.payloads.tensors import tensors_of

METHOD = "/inference.GRPCInferenceService/ModelInfer"
STATUSES = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 0,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""What HTTP would have said, 0 where no answer came; anything else is 500."""


def infer_request(model: str, table: pa.Table) -> bytes:
    """A table's rows as the bytes of a ``ModelInferRequest``."""
    tensors = tensors_of(table)
    inputs = (_field(5, _tensor(name, datatype, shape)) for name, datatype, shape, _ in tensors)
    blobs = (_field(7, blob) for *_, blob in tensors)
    return b"".join((_field(1, model.encode()), *inputs, *blobs))


def infer_call(channel: grpc.Channel) -> "grpc.UnaryUnaryMultiCallable[bytes, bytes]":
    """The method on a channel; takes and gives bytes."""
    return channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)


def _tensor(name: str, datatype: str, shape: list[int]) -> bytes:
    dimensions = b"".join(_varint(size) for size in shape)
    return _field(1, name.encode()) + _field(2, datatype.encode()) + _field(3, dimensions)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
