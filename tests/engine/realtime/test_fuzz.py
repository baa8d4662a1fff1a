"""Bytes of any kind are answered with a status and a sentence, and the engine goes on."""

from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import InvalidInput
from engine.realtime.grpc.door import read
from engine.realtime.grpc.messages import message
from engine.realtime.serving.served import Revision
from engine.scorer import Scorer
from tests.engine.realtime.running import Engine

relaxed = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=12,
)
sizes = st.integers(-2, 9) | st.integers(2**31, 2**65)
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["rows", "f0", "f1", "f2", "f3", ""]),
        "datatype": st.sampled_from(["FP32", "FP64", "FP16", "INT8", "UINT64", "BOOL", "BYTES", "X"]),
        "shape": st.lists(sizes, max_size=4),
    },
    optional={
        "data": json_values,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "x"]), json_values, max_size=2),
    },
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=5)},
    optional={
        "id": json_values,
        "parameters": st.dictionaries(
            st.sampled_from(["timeout", "binary_data_output"]), json_values, max_size=2
        ),
        "outputs": st.lists(json_values, max_size=2),
    },
)
headers = st.dictionaries(
    st.sampled_from(
        ["Inference-Header-Content-Length", "Content-Encoding", "Content-Type", "Tandem-Timeout-S"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=6) | st.integers(0, 200).map(str),
    max_size=2,
)


def check(engine: Engine, path: str, body: bytes, sent: dict[str, str]) -> None:
    reply = engine.ask("POST", path, body, sent)
    assert reply.status in (200, 400, 413, 415, 429), reply
    if reply.status != 200:
        assert list(reply.json) == ["error"]
        assert len(reply.json["error"]) < 2000


@given(st.binary(max_size=200), headers)
@relaxed
def test_any_bytes_at_infer(engine: Engine, body: bytes, sent: dict[str, str]) -> None:
    check(engine, "/v2/models/numeric/infer", body, sent)


@given(requests, st.binary(max_size=64), st.booleans())
@relaxed
def test_any_tensors_at_infer(engine: Engine, request: object, blob: bytes, binary: bool) -> None:
    text = msgspec.json.encode(request)
    sent = {"Inference-Header-Content-Length": str(len(text))} if binary else {}
    check(engine, "/v2/models/numeric/infer", text + blob if binary else text, sent)


@given(st.fixed_dictionaries({"rows": json_values | st.lists(json_values, max_size=4)}))
@relaxed
def test_any_rows_at_score(engine: Engine, body: object) -> None:
    check(engine, "/v1/models/mixed/score", msgspec.json.encode(body), {})


@given(st.binary(max_size=300))
@relaxed
def test_any_bytes_as_arrow(engine: Engine, body: bytes) -> None:
    check(engine, "/v1/models/mixed/score", body, {"Content-Type": "application/vnd.apache.arrow.stream"})


texts = st.sampled_from(["rows", "f0", "f1", "score", "", "é"])
contents = st.fixed_dictionaries(
    {},
    optional={
        "fp32_contents": st.lists(st.floats(width=32), max_size=5),
        "fp64_contents": st.lists(st.floats(), max_size=5),
        "int_contents": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
        "bytes_contents": st.lists(st.binary(max_size=4), max_size=5),
    },
)
grpc_parameters = st.dictionaries(
    st.sampled_from(["timeout", "sequence_id", "binary_data_size", "shared_memory_region", "x"]),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: {"int64_param": number})
    | st.text(max_size=4).map(lambda text: {"string_param": text})
    | st.just({}),
    max_size=2,
)
grpc_tensors = st.fixed_dictionaries(
    {
        "name": texts,
        "datatype": st.sampled_from(["FP32", "FP64", "FP16", "INT8", "BOOL", "BYTES", "X", ""]),
        "shape": st.lists(st.integers(-2, 5) | st.integers(-(2**63), 2**63 - 1), max_size=3),
    },
    optional={"contents": contents, "parameters": grpc_parameters},
)
grpc_requests = st.fixed_dictionaries(
    {"model_name": st.sampled_from(["numeric", "mixed"]), "inputs": st.lists(grpc_tensors, max_size=4)},
    optional={
        "parameters": grpc_parameters,
        "outputs": st.lists(st.fixed_dictionaries({"name": texts}), max_size=2),
        "raw_input_contents": st.lists(st.binary(max_size=40), max_size=4),
    },
)


@given(grpc_requests)
@settings(relaxed, max_examples=200)
def test_any_message_at_the_grpc_door(scorers: Mapping[str, Scorer], request: dict[str, Any]) -> None:
    sent = message("ModelInferRequest")(**request)
    revision = Revision(sent.model_name, scorers[sent.model_name])
    try:
        asked = read(revision, message("ModelInferRequest").FromString(sent.SerializeToString()), 1.0, 500)
    except InvalidInput:
        return
    assert asked.X.shape == (len(asked.X), len(revision.schema.features))
    assert asked.budget_s > 0
