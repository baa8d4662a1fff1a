import gzip
import struct
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.engine.realtime.running import Lane, Reply

ROWS = np.array([[1, 2, 3, 4], [0, 0, 0, 1]], np.float32)
PATH = "/v2/models/numeric/infer"


def post(lane: Lane, request: Any, blobs: bytes = b"", path: str = PATH, **headers: str) -> Reply:
    text = msgspec.json.encode(request)
    names = {"Inference-Header-Content-Length": str(len(text))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return lane.ask("POST", path, text + blobs, names)


def binary(name: str, datatype: str, shape: list[int], size: object, **more: object) -> dict[str, object]:
    return {
        "name": name,
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": size},
        **more,
    }


def matrix(size: object = 32, **more: object) -> dict[str, object]:
    return {"inputs": [binary("rows", "FP32", [2, 4], size)], **more}


def texts(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def scores_in(reply: Reply) -> tuple[dict[str, Any], np.ndarray]:
    length = int(reply.headers["inference-header-content-length"])
    answer = msgspec.json.decode(reply.body[:length])
    size = answer["outputs"][0]["parameters"]["binary_data_size"]
    assert len(reply.body) == length + size
    return answer, np.frombuffer(reply.body[length:], np.float64)


def test_a_binary_matrix_is_scored(lane: Lane) -> None:
    answer = post(lane, matrix(), ROWS.tobytes()).json
    assert answer["outputs"][0]["data"] == [30.0, 4.0]


def test_data_that_follows_as_bytes_may_be_null_in_its_place(lane: Lane) -> None:
    request = {"inputs": [binary("rows", "FP32", [2, 4], 32, data=None)]}
    assert post(lane, request, ROWS.tobytes()).json["outputs"][0]["data"] == [30.0, 4.0]


@pytest.mark.parametrize(
    "more",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "score", "parameters": {"binary_data": True}}]},
        {
            "parameters": {"binary_data_output": False},
            "outputs": [{"name": "score", "parameters": {"binary_data": True}}],
        },
        {"parameters": {"binary_data_output": True}, "outputs": [{"name": "score"}]},
    ],
)
def test_scores_come_as_bytes_when_asked_for(lane: Lane, more: dict[str, Any]) -> None:
    reply = post(lane, matrix(**more), ROWS.tobytes())
    answer, scores = scores_in(reply)
    assert scores.tolist() == [30.0, 4.0]
    assert answer["outputs"][0]["shape"] == [2]
    assert reply.headers["content-type"] == "application/octet-stream"


def test_an_output_may_refuse_what_the_request_wants(lane: Lane) -> None:
    outputs = [{"name": "score", "parameters": {"binary_data": False}}]
    reply = post(lane, matrix(parameters={"binary_data_output": True}, outputs=outputs), ROWS.tobytes())
    assert reply.json["outputs"][0]["data"] == [30.0, 4.0]


def test_binary_and_json_tensors_mix(lane: Lane) -> None:
    carriers = texts(b"UA", b"", "Ünknown".encode())
    inputs = [
        {"name": "distance", "datatype": "FP64", "shape": [3], "data": [1, 2, 3]},
        binary("carrier", "BYTES", [3, 1], len(carriers)),
        {"name": "stops", "datatype": "INT64", "shape": [3], "data": [0, 0, 0]},
        binary("night", "BOOL", [3], 3),
    ]
    answer = post(lane, {"inputs": inputs}, carriers + b"\1\0\1", "/v2/models/mixed/infer").json
    assert answer["outputs"][0]["data"] == [7.0, None, None]


def test_the_raw_form_is_the_matrix_alone(lane: Lane) -> None:
    reply = lane.ask("POST", PATH, ROWS.tobytes(), {"Inference-Header-Content-Length": "0"})
    assert scores_in(reply)[1].tolist() == [30.0, 4.0]


def test_json_and_bytes_give_the_same_bits(lane: Lane) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 4)).astype(np.float32)
    as_json = {"name": "rows", "datatype": "FP32", "shape": [50, 4], "data": rows.reshape(-1).tolist()}
    plain = lane.ask("POST", PATH, {"inputs": [as_json]}).json["outputs"][0]["data"]
    raw = lane.ask("POST", PATH, rows.tobytes(), {"Inference-Header-Content-Length": "0"})
    assert np.array(plain).tobytes() == scores_in(raw)[1].tobytes()


def test_the_json_length_counts_inflated_bytes(lane: Lane) -> None:
    text = msgspec.json.encode(matrix())
    body = gzip.compress(text + ROWS.tobytes())
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Encoding": "gzip"}
    assert lane.ask("POST", PATH, body, headers).json["outputs"][0]["data"] == [30.0, 4.0]


def test_half_floats_and_empty_tensors_are_taken(lane: Lane) -> None:
    half = {"inputs": [binary("rows", "FP16", [2, 4], 16)]}
    assert post(lane, half, ROWS.astype(np.float16).tobytes()).json["outputs"][0]["data"] == [30.0, 4.0]
    empty = {"inputs": [binary("rows", "FP32", [0, 4], 0)]}
    assert post(lane, empty).json["outputs"][0]["data"] == []


@pytest.mark.parametrize("header", ["-1", "1e3", "0x10", "", "9" * 30, "1000000", "+5", "1_0"])
def test_a_header_that_is_no_length_within_the_body_is_a_bad_request(lane: Lane, header: str) -> None:
    body = msgspec.json.encode(matrix()) + ROWS.tobytes()
    reply = lane.ask("POST", PATH, body, {"Inference-Header-Content-Length": header})
    assert reply.status == 400
    assert "Inference-Header-Content-Length" in reply.json["error"]


@pytest.mark.parametrize(
    ("request_", "blobs", "words"),
    [
        (matrix(), ROWS.tobytes()[:-1], "only 31 are left"),
        (matrix(), ROWS.tobytes() + b"x", "unexpected additional input data: 1 bytes"),
        (matrix("32"), ROWS.tobytes(), "binary_data_size of input 'rows'"),
        (matrix(-32), ROWS.tobytes(), "binary_data_size of input 'rows'"),
        (matrix(True), ROWS.tobytes(), "binary_data_size of input 'rows'"),
        (matrix(32.0), ROWS.tobytes(), "binary_data_size of input 'rows'"),
        (matrix(31), ROWS.tobytes()[:31], "expected 32 bytes"),
        (matrix(2**70), ROWS.tobytes(), "only 32 are left"),
        ({"inputs": [binary("rows", "FP32", [2**32 + 1, 4], 32)]}, ROWS.tobytes(), "got 32"),
        ({"inputs": [binary("rows", "FP32", [2, 4], 32, data=[0] * 8)]}, ROWS.tobytes(), "one of data"),
        ({"inputs": [binary("rows", "BF16", [2, 4], 16)]}, bytes(16), "BF16"),
        (
            {"inputs": [{"name": "rows", "datatype": "FP32", "shape": [2, 4],
                         "parameters": {"shared_memory_region": "x"}}]},
            b"", "shared memory",
        ),
        ({"inputs": [{"name": "rows", "datatype": "FP32", "shape": [1, 4], "data": [0] * 4}]}, b"x", "addit"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_add_up_are_bad_requests(
    lane: Lane, request_: dict[str, Any], blobs: bytes, words: str
) -> None:
    reply = post(lane, request_, blobs)
    assert reply.status == 400
    assert words in reply.json["error"]


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (texts(b"UA"), "expected 2 length-prefixed elements"),
        (texts(b"UA", b"DL", b"AA"), "expected 2 length-prefixed elements"),
        (texts(b"UA") + b"\xff\xff\xff\xff", "expected 2 length-prefixed elements"),
        (texts(b"UA") + b"\1", "expected 2 length-prefixed elements"),
        (texts(b"UA", b"\xff"), "element 1 of BYTES input 'carrier' is no UTF-8"),
    ],
)
def test_text_that_is_cut_or_no_utf8_is_a_bad_request(lane: Lane, blob: bytes, words: str) -> None:
    request = {"inputs": [binary("carrier", "BYTES", [2], len(blob))]}
    reply = post(lane, request, blob, "/v2/models/mixed/infer")
    assert reply.status == 400
    assert words in reply.json["error"]


def test_a_boolean_byte_is_0_or_1(lane: Lane) -> None:
    request = {"inputs": [binary("night", "BOOL", [2], 2)]}
    reply = post(lane, request, b"\1\2", "/v2/models/mixed/infer")
    assert (reply.status, "night" in reply.json["error"]) == (400, True)


def test_the_raw_form_takes_whole_rows_only(lane: Lane) -> None:
    reply = lane.ask("POST", PATH, bytes(17), {"Inference-Header-Content-Length": "0"})
    assert (reply.status, "16 bytes" in reply.json["error"]) == (400, True)


def test_a_matrix_cannot_carry_text_categories(lane: Lane) -> None:
    headers = {"Inference-Header-Content-Length": "0"}
    reply = lane.ask("POST", "/v2/models/mixed/infer", bytes(32), headers)
    assert (reply.status, "carrier" in reply.json["error"]) == (400, True)


def test_a_hundred_thousand_tensors_are_refused(lane: Lane) -> None:
    request = {"inputs": [{"name": "f0", "datatype": "FP32", "shape": [1], "data": [1]}] * 1500}
    reply = lane.ask("POST", PATH, request)
    assert (reply.status, "twice" in reply.json["error"]) == (400, True)
