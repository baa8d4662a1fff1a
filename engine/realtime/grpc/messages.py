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
_LOADING: tuple[_Field, ...] = (
    ("repository_name", 1, "string"), ("model_name", 2, "string"),
    ("parameters", 3, "map ModelRepositoryParameter"),
)  # fmt: skip
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
    "ModelRepositoryParameter": (
        ("bool_param", 1, "oneof bool"), ("int64_param", 2, "oneof int64"),
        ("string_param", 3, "oneof string"), ("bytes_param", 4, "oneof bytes"),
    ),
    "RepositoryModelLoadRequest": _LOADING,
    "RepositoryModelLoadResponse": (),
    "RepositoryModelUnloadRequest": _LOADING,
    "RepositoryModelUnloadResponse": (),
    "ModelStatisticsRequest": (("name", 1, "string"), ("version", 2, "string")),
    "ModelStatisticsResponse": (("model_stats", 1, "repeated ModelStatistics"),),
    "ModelStatistics": (
        ("name", 1, "string"), ("version", 2, "string"), ("last_inference", 3, "uint64"),
        ("inference_count", 4, "uint64"), ("execution_count", 5, "uint64"),
        ("inference_stats", 6, "InferStatistics"), ("batch_stats", 7, "repeated InferBatchStatistics"),
        ("memory_usage", 8, "repeated MemoryUsage"),
    ),
    "InferStatistics": tuple(
        (name, number, "StatisticDuration")
        for number, name in enumerate((
            "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit",
            "cache_miss",
        ), start=1)
    ),
    "InferBatchStatistics": (
        ("batch_size", 1, "uint64"), ("compute_input", 2, "StatisticDuration"),
        ("compute_infer", 3, "StatisticDuration"), ("compute_output", 4, "StatisticDuration"),
    ),
    "StatisticDuration": (("count", 1, "uint64"), ("ns", 2, "uint64")),
    "MemoryUsage": (("type", 1, "string"), ("id", 2, "int64"), ("byte_size", 3, "uint64")),
    "ModelConfigRequest": (("name", 1, "string"), ("version", 2, "string")),
    "ModelConfigResponse": (("config", 1, "ModelConfig"),),
    "ModelConfig": (
        ("name", 1, "string"), ("platform", 2, "string"), ("version_policy", 3, "ModelVersionPolicy"),
        ("max_batch_size", 4, "int32"), ("input", 5, "repeated ModelInput"),
        ("output", 6, "repeated ModelOutput"), ("parameters", 14, "map ModelParameter"),
        ("backend", 17, "string"),
    ),
    "ModelVersionPolicy": (("latest", 1, "ModelVersionPolicy.Latest"),),
    "ModelVersionPolicy.Latest": (("num_versions", 1, "uint32"),),
    "ModelInput": (("name", 1, "string"), ("data_type", 2, "enum DataType"), ("dims", 4, "repeated int64")),
    "ModelOutput": (("name", 1, "string"), ("data_type", 2, "enum DataType"), ("dims", 3, "repeated int64")),
    "ModelParameter": (("string_value", 1, "string"),),
}  # fmt: skip
"""Fields by message: name, number and type; nested messages after the one they are nested in."""

_DATA_TYPES = (
    "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
    "FP32", "FP64", "STRING", "BF16",
)  # fmt: skip
"""The enum ``DataType`` of ``ModelConfig``, by number."""

METHODS = (
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer",
    "ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload",
)  # fmt: skip
"""Unary methods: each takes ``{method}Request`` and answers ``{method}Response``."""
STREAM = "ModelStreamInfer"

_Proto = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=PACKAGE, syntax="proto3")
    data_type = file.enum_type.add(name="DataType")
    for number, kind in enumerate(_DATA_TYPES):
        data_type.value.add(name=f"TYPE_{kind}", number=number)
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
    if rule == "enum":
        field.type, field.type_name = _Proto.TYPE_ENUM, _path(kind)
    elif kind[0].isupper():
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
