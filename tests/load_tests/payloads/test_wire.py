"""Each wire format carries the same rows."""

import struct

import msgspec
import pyarrow as pa
import pytest
from tritonclient.grpc import service_pb2

from engine.realtime.counting.counters import DOORS
from load_tests.payloads.grpc_request import infer_request
from load_tests.payloads.wire import WIRES, encode, raw, with_deadline

MIXED = pa.table(
    {
        "carrier": ["UA", None, "B6"],
        "seats": pa.array([150, None, 20], pa.int16()),
        "day": pa.array([1, 2, 3], pa.int8()),
        "temp": pa.array([39.02, None, 41.0], pa.float32()),
    }
)
NUMBERS = MIXED.drop_columns(["carrier"])


def test_a_wire_is_called_what_the_engine_counts_it_under() -> None:
    assert set(WIRES) == set(DOORS)


@pytest.mark.parametrize("wire", WIRES)
def test_rows_are_dealt_out_in_order_and_the_last_request_is_shorter(wire) -> None:
    assert [request.n_rows for request in encode(wire, "late", MIXED, 2)] == [2, 1]


def test_json_rows_name_each_feature_and_say_null() -> None:
    first, _ = encode("rows", "late", MIXED, 2)
    assert first.path == "/v1/models/late/score"
    assert msgspec.json.decode(first.body) == {
        "rows": [
            {"carrier": "UA", "seats": 150, "day": 1, "temp": 39.02000045776367},
            {"carrier": None, "seats": None, "day": 2, "temp": None},
        ]
    }


def test_oip_json_has_one_tensor_per_feature_and_floats_where_null_must_fit() -> None:
    (request,) = encode("oip", "late", MIXED, 3)
    inputs = {tensor["name"]: tensor for tensor in msgspec.json.decode(request.body)["inputs"]}
    assert request.path == "/v2/models/late/infer"
    assert inputs["carrier"] == {
        "name": "carrier",
        "shape": [3],
        "datatype": "BYTES",
        "data": ["UA", None, "B6"],
    }
    assert (inputs["seats"]["datatype"], inputs["seats"]["data"]) == ("FP32", [150, None, 20])
    assert inputs["day"]["datatype"] == "INT8"


def test_binary_tensors_follow_their_head_in_order() -> None:
    (request,) = encode("binary", "late", MIXED, 3)
    length = int(request.headers["Inference-Header-Content-Length"])
    head, blobs = msgspec.json.decode(request.body[:length]), request.body[length:]
    sizes = [tensor["parameters"]["binary_data_size"] for tensor in head["inputs"]]
    assert sum(sizes) == len(blobs)
    assert blobs[: sizes[0]] == b"\x02\0\0\0UA" + b"\0\0\0\0" + b"\x02\0\0\0B6"
    assert struct.unpack("<3b", blobs[sum(sizes[:2]) : sum(sizes[:3])]) == (1, 2, 3)


def test_booleans_travel_as_bool_and_as_floats_where_one_is_missing() -> None:
    table = pa.table({"carrier": ["UA", "AA"], "wet": [True, False], "late": [True, None]})
    (json,) = encode("oip", "late", table, 2)
    _, wet, late = msgspec.json.decode(json.body)["inputs"]
    assert (wet["datatype"], wet["data"]) == ("BOOL", [True, False])
    assert (late["datatype"], late["data"]) == ("FP32", [1, None])
    (binary,) = encode("binary", "late", table, 2)
    length = int(binary.headers["Inference-Header-Content-Length"])
    _, wet, late = msgspec.json.decode(binary.body[:length])["inputs"]
    assert (wet["datatype"], late["datatype"]) == ("BOOL", "FP32")
    assert binary.body[-10:] == b"\x01\x00" + struct.pack("<2f", 1.0, float("nan"))


def test_numbers_alone_travel_as_one_matrix() -> None:
    (request,) = encode("binary", "late", NUMBERS, 3)
    length = int(request.headers["Inference-Header-Content-Length"])
    (tensor,) = msgspec.json.decode(request.body[:length])["inputs"]
    assert (tensor["shape"], tensor["datatype"]) == ([3, 3], "FP32")
    assert struct.unpack("<3f", request.body[length : length + 12])[:2] == (150.0, 1.0)


def test_an_arrow_stream_holds_the_slice() -> None:
    second = encode("arrow", "late", MIXED, 2)[1]
    assert pa.ipc.open_stream(second.body).read_all().equals(MIXED.slice(2, 1))


def test_a_grpc_request_is_what_the_protocol_s_own_code_reads() -> None:
    read = service_pb2.ModelInferRequest.FromString(infer_request("late", MIXED))
    assert read.model_name == "late"
    assert [(i.name, i.datatype, list(i.shape)) for i in read.inputs][:2] == [
        ("carrier", "BYTES", [3]),
        ("seats", "FP32", [3]),
    ]
    assert len(read.raw_input_contents) == 4
    assert read.raw_input_contents[2] == b"\x01\x02\x03"


def test_a_deadline_travels_as_a_header() -> None:
    (request,) = with_deadline(encode("rows", "late", MIXED, 3), 0.25)
    assert request.headers["Tandem-Timeout-S"] == "0.25"


def test_raw_bytes_are_a_whole_http_request() -> None:
    (request,) = encode("rows", "late", MIXED, 3)
    head, body = raw(request, "127.0.0.1", 8080).split(b"\r\n\r\n", 1)
    assert head.startswith(b"POST /v1/models/late/score HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert body == request.body
