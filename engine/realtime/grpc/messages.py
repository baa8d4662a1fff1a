"""The messages of the Open Inference Protocol's gRPC service, from the specification's field numbers.

They live in a descriptor pool of their own, so that a client library with the same messages may be in
the process as well.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
_FILE = "tandem/open_inference.proto"

_Field = tuple[str, int, str]

_INFER_PARAMETERS: _Field = ("parameters", 4, "map InferParameter")
_MESSAGES: dict[str, tuple[_Field, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": (("live", 1, "bool"),),
    "ServerReadyRequest": (),
    "ServerReadyResponse": (("ready", 1, "bool"),),
    "ModelReadyRequest": (("name", 1, "string"), ("version", 2, "string")),
    "ModelReadyResponse": (("ready", 1, "bool"),),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (
        ("name", 1, "string"), ("version", 2, "string"), ("extensions", 3, "repeated string"),
    ),
    "ModelMetadataRequest": (("name", 1, "string"), ("version", 2, "string")),
    "ModelMetadataResponse": (
        ("name", 1, "string"), ("versions", 2, "repeated string"), ("platform", 3, "string"),
        ("inputs", 4, "repeated ModelMetadataResponse.TensorMetadata"),
        ("outputs", 5, "repeated ModelMetadataResponse.TensorMetadata"),
    ),
    "ModelMetadataResponse.TensorMetadata": (
        ("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "repeated int64"),
    ),
    "InferParameter": (
        ("bool_param", 1, "oneof bool"), ("int64_param", 2, "oneof int64"),
        ("string_param", 3, "oneof string"), ("double_param", 4, "oneof double"),
        ("uint64_param", 5, "oneof uint64"),
    ),
    "InferTensorContents": (
        ("bool_contents", 1, "repeated bool"), ("int_contents", 2, "repeated int32"),
        ("int64_contents", 3, "repeated int64"), ("uint_contents", 4, "repeated uint32"),
        ("uint64_contents", 5, "repeated uint64"), ("fp32_contents", 6, "repeated float"),
        ("fp64_contents", 7, "repeated double"), ("bytes_contents", 8, "repeated bytes"),
    ),
    "ModelInferRequest": (
        ("model_name", 1, "string"), ("model_version", 2, "string"), ("id", 3, "string"), _INFER_PARAMETERS,
        ("inputs", 5, "repeated ModelInferRequest.InferInputTensor"),
        ("outputs", 6, "repeated ModelInferRequest.InferRequestedOutputTensor"),
        ("raw_input_contents", 7, "repeated bytes"),
    ),
    "ModelInferRequest.InferInputTensor": (
        ("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "repeated int64"), _INFER_PARAMETERS,
        ("contents", 5, "InferTensorContents"),
    ),
    "ModelInferRequest.InferRequestedOutputTensor": (
        ("name", 1, "string"), ("parameters", 2, "map InferParameter"),
    ),
    "ModelInferResponse": (
        ("model_name", 1, "string"), ("model_version", 2, "string"), ("id", 3, "string"), _INFER_PARAMETERS,
        ("outputs", 5, "repeated ModelInferResponse.InferOutputTensor"),
        ("raw_output_contents", 6, "repeated bytes"),
    ),
    "ModelInferResponse.InferOutputTensor": (
        ("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "repeated int64"), _INFER_PARAMETERS,
        ("contents", 5, "InferTensorContents"),
    ),
    "ModelStreamInferResponse": (("error_message", 1, "string"), ("infer_response", 2, "ModelInferResponse")),
    "RepositoryIndexRequest": (("repository_name", 1, "string"), ("ready", 2, "bool")),
    "RepositoryIndexResponse": (("models", 1, "repeated RepositoryIndexResponse.ModelIndex"),),
    "RepositoryIndexResponse.ModelIndex": (
        ("name", 1, "string"), ("version", 2, "string"), ("state", 3, "string"), ("reason", 4, "string"),
    ),
}  # fmt: skip
"""Fields by message: name, number and type; nested messages after the one they are nested in."""

METHODS = (
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer",
    "RepositoryIndex",
)  # fmt: skip
"""Unary methods: each takes ``{method}Request`` and answers ``{method}Response``."""
STREAM = "ModelStreamInfer"

_Proto = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        parent = next(m for m in file.message_type if m.name == outer) if outer else None
        message = parent.nested_type.add() if parent is not None else file.message_type.add()
        message.name = inner
        for field in fields:
            _add(message, name, *field)
    service = file.service.add(name=SERVICE.rpartition(".")[2])
    for method in METHODS:
        service.method.add(
            name=method, input_type=_path(f"{method}Request"), output_type=_path(f"{method}Response")
        )
    service.method.add(
        name=STREAM,
        input_type=_path("ModelInferRequest"),
        output_type=_path("ModelStreamInferResponse"),
        client_streaming=True,
        server_streaming=True,
    )
    return file


def _add(message: descriptor_pb2.DescriptorProto, path: str, name: str, number: int, kind: str) -> None:
    rule, _, kind = kind.rpartition(" ")
    if rule == "oneof" and not message.oneof_decl:
        message.oneof_decl.add(name="parameter_choice")
    if rule == "map":
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add(entry, "", "key", 1, "string")
        _add(entry, "", "value", 2, kind)
        kind = f"{path}.{entry.name}"
    field = message.field.add(name=name, number=number)
    field.label = _Proto.LABEL_REPEATED if rule in ("repeated", "map") else _Proto.LABEL_OPTIONAL
    if rule == "oneof":
        field.oneof_index = 0
    if kind[0].isupper():
        field.type, field.type_name = _Proto.TYPE_MESSAGE, _path(kind)
    else:
        field.type = _Proto.Type.Value(f"TYPE_{kind.upper()}")


def _path(name: str) -> str:
    return f".{PACKAGE}.{name}"


POOL = descriptor_pool.DescriptorPool()
POOL.AddSerializedFile(_file().SerializeToString())


def message(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
