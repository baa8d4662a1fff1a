import struct

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from tritonclient.grpc import service_pb2

from load_tests.soak.answers import n_scores, scores_in
from load_tests.soak.inputs import Payload

SCORES = [0.1 + 0.2, 1 / 3]
BITS = np.array(SCORES).tobytes()


def arrow() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"score": SCORES})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def over_grpc() -> bytes:
    response = service_pb2.ModelInferResponse(model_name="late", model_version="1", id="x")
    response.parameters["note"].string_param = "y"
    response.outputs.add(name="score", datatype="FP64", shape=[2])
    response.raw_output_contents.append(BITS)
    return response.SerializeToString()


ANSWERS = {
    "rows": msgspec.json.encode({"scores": SCORES}),
    "oip": msgspec.json.encode({"outputs": [{"data": SCORES}]}),
    "binary": b'{"outputs":[{}]}' + BITS,
    "arrow": arrow(),
    "grpc": over_grpc(),
}


@pytest.mark.parametrize("wire", ANSWERS)
def test_the_bits_of_the_scores_are_found_in_an_answer(wire) -> None:
    assert scores_in(wire, ANSWERS[wire], 2) == BITS


def test_the_same_rows_are_compared_over_all_wires_and_other_rows_are_not() -> None:
    payloads = [
        Payload(0, "rows", (0, 2), b""),
        Payload(1, "grpc", (0, 2), b""),
        Payload(1, "grpc", (2, 2), b""),
    ]
    other = ANSWERS["grpc"].replace(BITS, struct.pack("<2d", SCORES[0], np.nextafter(SCORES[1], 1)))
    rows, grpc = {1: ANSWERS["rows"]}, {2: ANSWERS["grpc"]}
    assert n_scores(payloads, {0: rows, 1: grpc, 2: {3: other}}) == 1
    assert n_scores(payloads, {0: rows, 1: {3: other}}) == 2
    assert n_scores(payloads, {}) == 0
