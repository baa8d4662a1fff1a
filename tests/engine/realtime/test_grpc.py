"""tritonclient's gRPC side, unchanged, and raw stubs where it cannot send what is wrong."""

import asyncio
import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from engine.config import Serve, Slo
from engine.realtime.grpc.door import is_large
from engine.realtime.grpc.messages import SERVICE, message
from engine.realtime.serving.app import ScoringApp
from engine.scorer import Scorer
from tests.engine.realtime.running import Engine, start
from tests.waiting import wait_until

ROWS = np.array([[1, 2, 3, 4], [0, 0, 0, 1]], np.float32)
MANY = 2_000
"""Rows of a large request."""


@pytest.fixture(scope="module")
def engine(scorers: Mapping[str, Scorer]) -> Iterator[Engine]:
    settings = Serve(port=0, slo=Slo(10_000), max_rows=MANY, grpc_port=0, drain_s=5.0)
    yield from start(lambda: ScoringApp(scorers, settings), settings)


@pytest.fixture(scope="module")
def port(engine: Engine) -> int:
    assert engine.server.grpc is not None
    return engine.server.grpc.port


@pytest.fixture(scope="module")
def client(port: int) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield client


@pytest.fixture(scope="module")
def channel(port: int) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


def tensor(name: str, values: np.ndarray, datatype: str) -> Any:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def call(channel: grpc.Channel, method: str, request: Any) -> Any:
    invoke = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=lambda one: one.SerializeToString(),
        response_deserializer=getattr(service_pb2, f"{method}Response").FromString,
    )
    return invoke(request, timeout=20)


def infer_request(**contents: Any) -> Any:
    request = service_pb2.ModelInferRequest(model_name="numeric", id="7")
    request.inputs.add(name="rows", datatype="FP32", shape=[2, 4])
    request.inputs[0].contents.fp32_contents.extend(ROWS.reshape(-1))
    return request


def test_a_matrix_is_scored(client: Any) -> None:
    result = client.infer("numeric", [tensor("rows", ROWS, "FP32")], request_id="7")
    assert result.as_numpy("score").tolist() == [30.0, 4.0]
    assert result.get_response().id == "7"


def test_a_message_that_inflates_past_the_limit_is_refused(port: int, client: Any) -> None:
    request = infer_request()
    request.inputs[0].contents.Clear()
    request.raw_input_contents.append(bytes(64 << 20))
    with (
        grpc.insecure_channel(f"127.0.0.1:{port}", compression=grpc.Compression.Gzip) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        call(channel, "ModelInfer", request)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert client.infer("numeric", [tensor("rows", ROWS, "FP32")]).as_numpy("score").tolist() == [30.0, 4.0]


def test_one_tensor_per_feature_is_scored(client: Any) -> None:
    inputs = [
        tensor("distance", np.array([100.0, 1.0]), "FP64"),
        tensor("carrier", np.array(["UA", "AA"], object), "BYTES"),
        tensor("stops", np.array([2, 0], np.int8), "INT8"),
        tensor("night", np.array([True, False]), "BOOL"),
    ]
    assert client.infer("mixed", inputs).as_numpy("score").tolist() == [112.0, 1.0]


def test_typed_contents_are_answered_in_typed_contents(channel: grpc.Channel) -> None:
    response = call(channel, "ModelInfer", infer_request())
    assert list(response.outputs[0].contents.fp64_contents) == [30.0, 4.0]
    assert list(response.raw_output_contents) == []


def test_a_bad_row_is_named_and_its_neighbour_scored(client: Any) -> None:
    inputs = [
        tensor("distance", np.array([100.0, 1.0]), "FP64"),
        tensor("carrier", np.array(["UA", "AA"], object), "BYTES"),
        tensor("stops", np.array([2, 1000], np.int64), "INT64"),
        tensor("night", np.array([True, False]), "BOOL"),
    ]
    result = client.infer("mixed", inputs)
    scores = result.as_numpy("score")
    assert scores[0] == 112.0
    assert np.isnan(scores[1])
    assert "stops" in result.get_response().parameters["bad_rows"].string_param


def test_health_metadata_and_index(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("numeric")
    assert client.get_server_metadata().name == "tandem"
    metadata = client.get_model_metadata("numeric", as_json=True)
    assert [one["name"] for one in metadata["inputs"]] == ["f0", "f1", "f2", "f3"]
    assert {model.name for model in client.get_model_repository_index().models} == {"mixed", "numeric"}
    assert not client.is_model_ready("nope")
    assert not client.is_model_ready("numeric", "1")
    with pytest.raises(InferenceServerException, match="no model 'nope'"):
        client.get_model_metadata("nope")


def test_a_model_of_an_engine_that_drains_is_not_ready(client: Any, engine: Engine) -> None:
    engine.app.draining = True
    try:
        assert not client.is_model_ready("numeric")
        reply = engine.ask("GET", "/v2/models/numeric/ready")
        assert (reply.status, reply.json) == (503, {"name": "numeric", "ready": False})
    finally:
        engine.app.draining = False
    assert client.is_model_ready("numeric")
    assert engine.ask("GET", "/v2/models/numeric/ready").json == {"name": "numeric", "ready": True}


def typed_numbers(n_rows: int) -> Any:
    request = service_pb2.ModelInferRequest(model_name="numeric")
    request.inputs.add(name="rows", datatype="FP32", shape=[n_rows, 4])
    request.inputs[0].contents.fp32_contents.extend([1.0, 2.0, 3.0, 4.0] * n_rows)
    return request


def raw_numbers(n_rows: int) -> Any:
    request = service_pb2.ModelInferRequest(model_name="numeric")
    request.inputs.add(name="rows", datatype="FP32", shape=[n_rows, 4])
    request.raw_input_contents.append(np.tile(ROWS[0], n_rows).tobytes())
    return request


def raw_texts(n_rows: int) -> Any:
    request = service_pb2.ModelInferRequest(model_name="mixed")
    request.inputs.add(name="carrier", datatype="BYTES", shape=[n_rows])
    request.raw_input_contents.append((b"\x02\0\0\0" + b"UA") * n_rows)
    return request


@pytest.mark.parametrize(
    ("request_of", "n_rows", "large"),
    [
        (typed_numbers, 10, False), (typed_numbers, MANY, True),
        (raw_numbers, MANY, False), (raw_numbers, 1 << 17, True),
        (raw_texts, 10, False), (raw_texts, MANY, True),
    ],
)  # fmt: skip
def test_what_is_large_depends_on_how_its_values_are_read(
    request_of: Callable[[int], Any], n_rows: int, large: bool
) -> None:
    request = request_of(n_rows)
    assert is_large(request, request.ByteSize()) == large


def test_a_large_message_is_read_beside_the_loop_which_answers_others(
    engine: Engine, channel: grpc.Channel
) -> None:
    aside, go_on = engine.app.model("numeric").aside, threading.Event()
    aside.submit(go_on.wait)
    with ThreadPoolExecutor() as threads:
        try:
            large = threads.submit(call, channel, "ModelInfer", typed_numbers(MANY))
            wait_until(lambda: aside._work_queue.qsize() > 0)
            response = call(channel, "ModelInfer", infer_request())
            assert list(response.outputs[0].contents.fp64_contents) == [30.0, 4.0]
            assert not large.done()
        finally:
            go_on.set()
        response = large.result()
    assert list(response.outputs[0].contents.fp64_contents) == [30.0] * MANY


def test_who_leaves_while_a_large_message_waits_is_forgotten(engine: Engine, channel: grpc.Channel) -> None:
    aside, go_on = engine.app.model("numeric").aside, threading.Event()
    aside.submit(go_on.wait)
    try:
        invoke = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        leaving = invoke.future(typed_numbers(MANY).SerializeToString(), timeout=20)
        wait_until(lambda: engine.app.in_flight == 1)
        leaving.cancel()
        wait_until(lambda: engine.app.in_flight == 0)
    finally:
        go_on.set()
    assert call(channel, "ModelInfer", infer_request()).id == "7"


def test_a_stream_answers_one_by_one_and_survives_an_error(client: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for model in ("numeric", "nope", "numeric"):
        client.async_stream_infer(model, [tensor("rows", ROWS, "FP32")])
    got = [answers.get(timeout=20) for _ in range(3)]
    client.stop_stream()
    assert got[0][0].as_numpy("score").tolist() == got[2][0].as_numpy("score").tolist() == [30.0, 4.0]
    assert "nope" in str(got[1][1])
    assert got[0][0].get_response().parameters["triton_final_response"].bool_param


def test_the_aio_client(port: int) -> None:
    async def scenario() -> None:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
            result = await client.infer("numeric", [tensor("rows", ROWS, "FP32")])
            assert result.as_numpy("score").tolist() == [30.0, 4.0]

    asyncio.run(scenario())


def spoiled(change: Any) -> Any:
    request = infer_request()
    change(request)
    return request


WRONG = {
    "values by the shape": lambda r: r.inputs[0].contents.fp32_contents.append(1.0),
    "negative size": lambda r: r.inputs[0].shape.__setitem__(0, -2),
    "got fp64_contents": lambda r: r.inputs[0].contents.fp64_contents.append(1.0),
    "raw_input_contents for 1 inputs, got 2": lambda r: r.raw_input_contents.extend([b"", b""]),
    "has contents, but": lambda r: r.raw_input_contents.append(ROWS.tobytes()),
    "BF16": lambda r: setattr(r.inputs[0], "datatype", "BF16"),
    "only raw_input_contents": lambda r: setattr(r.inputs[0], "datatype", "FP16"),
    "no output 'nope'": lambda r: r.outputs.add(name="nope"),
    "2 times": lambda r: (r.outputs.add(name="score"), r.outputs.add(name="score")),
    "classification": lambda r: (
        r.outputs.add(name="score").parameters["classification"].__setattr__("int64_param", 1)
    ),
    "there twice": lambda r: (
        setattr(r.inputs[0], "name", "f0"),
        r.inputs.add(name="f0", datatype="FP32", shape=[2]),
    ),
    "no feature": lambda r: r.inputs.add(name="f0", datatype="FP32", shape=[2]),
    "priority": lambda r: r.parameters["priority"].__setattr__("uint64_param", 1),
    "triton_": lambda r: r.parameters["triton_x"].__setattr__("bool_param", True),
    "got 8": lambda r: r.inputs[0].shape.__setitem__(0, 2**32 + 1),
    "sequence_id": lambda r: r.parameters["sequence_id"].__setattr__("int64_param", 3),
    "timeout": lambda r: r.parameters["timeout"].__setattr__("string_param", "soon"),
    "shared memory": lambda r: (
        r.inputs[0].parameters["shared_memory_region"].__setattr__("string_param", "x")
    ),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_does_not_fit_is_an_invalid_argument(channel: grpc.Channel, words: str) -> None:
    request = spoiled(WRONG[words])
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "ModelInfer", request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    assert words in caught.value.details()  # type: ignore[attr-defined]


def test_int8_out_of_range_and_short_raw_bytes_are_invalid(channel: grpc.Channel) -> None:
    wide = infer_request()
    wide.inputs[0].datatype = "INT8"
    wide.inputs[0].contents.Clear()
    wide.inputs[0].contents.int_contents.extend([300] * 8)
    short = infer_request()
    short.inputs[0].ClearField("contents")
    short.raw_input_contents.append(ROWS.tobytes()[:-1])
    for request, words in ((wide, "range of INT8"), (short, "expected 32 bytes")):
        with pytest.raises(grpc.RpcError, match=words):
            call(channel, "ModelInfer", request)


def test_an_unknown_model_or_version_is_not_found(channel: grpc.Channel) -> None:
    for change in ({"model_name": "nope"}, {"model_version": "1"}):
        request = infer_request()
        request.MergeFrom(service_pb2.ModelInferRequest(**change))
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "ModelInfer", request)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]


def test_what_is_not_served_is_unimplemented(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.get_log_settings()
    assert "UNIMPLEMENTED" in str(caught.value.status())


def test_the_standard_health_service_answers(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE):
        reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_and_describes_the_service(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    ask = reflection_pb2.ServerReflectionRequest
    listed, described = stub.ServerReflectionInfo(
        iter([ask(list_services=""), ask(file_containing_symbol=SERVICE)]), timeout=20
    )
    assert SERVICE in {service.name for service in listed.list_services_response.service}
    assert b"ModelInferRequest" in described.file_descriptor_response.file_descriptor_proto[0]


@pytest.mark.parametrize(
    "name",
    ["ModelInferRequest", "ModelInferResponse", "ModelMetadataResponse", "ModelStreamInferResponse",
     "RepositoryIndexResponse", "ModelReadyRequest", "ServerMetadataResponse", "RepositoryModelLoadRequest",
     "RepositoryModelUnloadRequest", "ModelStatisticsRequest", "ModelConfigRequest"],
)  # fmt: skip
def test_our_messages_have_tritons_field_numbers_and_types(name: str) -> None:
    def fields(descriptor: Any) -> dict[str, Any]:
        return {
            field.name: (
                field.number,
                field.type,
                field.is_repeated,
                fields(field.message_type) if field.message_type else None,
            )
            for field in descriptor.fields
        }

    theirs, ours = fields(getattr(service_pb2, name).DESCRIPTOR), fields(message(name).DESCRIPTOR)
    assert ours == theirs


@pytest.mark.parametrize("name", ["ModelStatisticsResponse", "ModelConfigResponse"])
def test_our_fields_of_larger_messages_are_tritons(name: str) -> None:
    def check(ours: Any, theirs: Any) -> None:
        for field in ours.fields:
            same = theirs.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (same.number, same.type, same.is_repeated)
            if field.message_type:
                check(field.message_type, same.message_type)
            if field.enum_type:
                values = {value.name: value.number for value in same.enum_type.values}
                assert {value.name: value.number for value in field.enum_type.values} == values

    check(message(name).DESCRIPTOR, getattr(service_pb2, name).DESCRIPTOR)


def test_draining_lets_a_call_end_and_refuses_the_next(scorers: Mapping[str, Scorer]) -> None:
    settings = Serve(port=0, slo=Slo(10_000), grpc_port=0, drain_s=5.0)
    running: Iterator[Engine] = start(lambda: ScoringApp(scorers, settings), settings)
    engine = next(running)
    assert engine.server.grpc is not None
    with grpc.insecure_channel(f"127.0.0.1:{engine.server.grpc.port}") as channel:
        assert call(channel, "ModelInfer", infer_request()).id == "7"
        engine.run(engine.server.drain())
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "ModelInfer", infer_request())
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    assert list(running) == []


def test_the_access_log_has_calls_for_scores(
    scorers: Mapping[str, Scorer], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Serve(port=0, slo=Slo(10_000), grpc_port=0, access_log=True)
    for engine in start(lambda: ScoringApp(scorers, settings), settings):
        assert engine.server.grpc is not None
        with grpc.insecure_channel(f"127.0.0.1:{engine.server.grpc.port}") as channel:
            call(channel, "ModelInfer", infer_request())
            with pytest.raises(grpc.RpcError):
                call(channel, "ModelInfer", service_pb2.ModelInferRequest(model_name="nobody"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    path = "/inference.GRPCInferenceService/ModelInfer"
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("GRPC", path, 200), ("GRPC", path, 404),
    ]  # fmt: skip
