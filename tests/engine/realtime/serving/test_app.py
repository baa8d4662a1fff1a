import gzip
import zlib

import pytest

from engine.scorer import Scorer
from tests.engine.realtime.running import Lane

ROW = {"distance": 100.0, "carrier": "UA", "stops": 2, "night": True}
SCORE = 100.0 + 2 * 1 + 3 * 2 + 4 * 1


def infer(*inputs: dict[str, object], **more: object) -> dict[str, object]:
    return {"inputs": list(inputs), **more}


def tensor(name: str, datatype: str, data: list[object], shape: list[int] | None = None) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


MATRIX = tensor("rows", "FP32", [1, 2, 3, 4, 0, 0, 0, 1], [2, 4])


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/mixed/ready"])
def test_a_running_engine_says_so(lane: Lane, path: str) -> None:
    reply = lane.ask("GET", path)
    assert reply.status == 200
    assert True in reply.json.values()


def test_the_server_names_its_extensions(lane: Lane) -> None:
    answer = lane.ask("GET", "/v2").json
    assert answer["name"] == "tandem"
    assert "binary_tensor_data" in answer["extensions"]


def test_a_model_lists_its_features_as_tensors(lane: Lane, scorers: dict[str, Scorer]) -> None:
    answer = lane.ask("GET", "/v2/models/mixed").json
    assert answer["inputs"] == [
        {"name": "distance", "datatype": "FP64", "shape": [-1]},
        {"name": "carrier", "datatype": "BYTES", "shape": [-1]},
        {"name": "stops", "datatype": "INT8", "shape": [-1]},
        {"name": "night", "datatype": "BOOL", "shape": [-1]},
    ]
    assert answer["outputs"] == [{"name": "score", "datatype": "FP64", "shape": [-1]}]
    assert scorers["mixed"].revision.startswith(answer["versions"][0])


def test_rows_are_scored(lane: Lane, scorers: dict[str, Scorer]) -> None:
    reply = lane.ask("POST", "/v1/models/mixed/score", {"rows": [ROW, {**ROW, "distance": None}]})
    revision = scorers["mixed"].revision[:12]
    assert reply.json == {"model": "mixed", "revision": revision, "scores": [SCORE, None]}
    assert reply.headers["tandem-revision"] == revision
    assert {part.split(";")[0].strip() for part in reply.headers["server-timing"].split(",")} == {
        "queue", "score", "total",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "status", "is_of_a_model"),
    [
        ("GET", "/v2", 200, False),
        ("GET", "/v2/models/nobody", 404, False),
        ("POST", "/v1/models/mixed/score", 400, True),
    ],
)
def test_any_answer_says_how_long_it_took_and_a_models_its_revision(
    lane: Lane, method: str, path: str, status: int, is_of_a_model: bool
) -> None:
    reply = lane.ask(method, path, b"{" if method == "POST" else None)
    assert reply.status == status
    assert "total;dur=" in reply.headers["server-timing"]
    assert ("tandem-revision" in reply.headers) == is_of_a_model


def test_a_matrix_is_scored(lane: Lane) -> None:
    answer = lane.ask("POST", "/v2/models/numeric/infer", infer(MATRIX, id='a"b')).json
    assert answer["id"] == 'a"b'
    assert answer["model_name"] == "numeric"
    assert answer["outputs"] == [{"name": "score", "datatype": "FP64", "shape": [2], "data": [30.0, 4.0]}]


def test_one_tensor_per_feature_is_scored(lane: Lane) -> None:
    inputs = [
        tensor("night", "BOOL", [True, False]),
        tensor("carrier", "BYTES", ["UA", "ZZ"], [2, 1]),
        tensor("distance", "FP64", [100, None]),
        tensor("stops", "INT8", [2, 0]),
    ]
    answer = lane.ask("POST", "/v2/models/mixed/infer", infer(*inputs)).json
    assert answer["outputs"][0]["data"] == [SCORE, None]


def test_nested_data_is_the_same_as_flat_data(lane: Lane) -> None:
    nested = tensor("rows", "FP32", [[1, 2, 3, 4], [0, 0, 0, 1]], [2, 4])
    assert (
        lane.ask("POST", "/v2/models/numeric/infer", infer(nested)).json
        == lane.ask("POST", "/v2/models/numeric/infer", infer(MATRIX)).json
    )


def test_the_path_may_name_the_version(lane: Lane, scorers: dict[str, Scorer]) -> None:
    revision = scorers["numeric"].revision
    for version in (revision, revision[:12]):
        reply = lane.ask("POST", f"/v2/models/numeric/versions/{version}/infer", infer(MATRIX))
        assert reply.json["model_version"] == revision[:12]
    assert lane.ask("POST", "/v2/models/numeric/versions/1/infer", infer(MATRIX)).status == 404


def test_a_bad_row_fails_alone(lane: Lane) -> None:
    rows = [ROW, {**ROW, "night": None}, {**ROW, "stops": 1000}, {"carrier": "UA"}, "no row", ROW]
    answer = lane.ask("POST", "/v1/models/mixed/score", {"rows": rows}).json
    assert answer["scores"] == [SCORE, None, None, None, None, SCORE]
    assert [error["row"] for error in answer["errors"]] == [1, 2, 3, 4]
    assert "night" in answer["errors"][0]["error"]


def test_a_bad_row_among_tensors_is_named_in_a_parameter(lane: Lane) -> None:
    inputs = [
        tensor("night", "BOOL", [True, True]),
        tensor("carrier", "BYTES", ["UA", "UA"]),
        tensor("distance", "FP64", [100, 100]),
        tensor("stops", "INT64", [2, 1000]),
    ]
    answer = lane.ask("POST", "/v2/models/mixed/infer", infer(*inputs)).json
    assert answer["outputs"][0]["data"] == [SCORE, None]
    assert answer["parameters"]["bad_rows"].startswith("row 1: feature 'stops'")


def test_only_bad_rows_are_a_bad_request(lane: Lane) -> None:
    reply = lane.ask("POST", "/v1/models/mixed/score", {"rows": [{**ROW, "night": None}]})
    assert reply.status == 400
    assert "night" in reply.json["error"]
    assert "tandem-revision" in reply.headers


def test_no_rows_are_no_scores(lane: Lane) -> None:
    assert lane.ask("POST", "/v1/models/mixed/score", {"rows": []}).json["scores"] == []
    empty = tensor("rows", "FP32", [], [0, 4])
    answer = lane.ask("POST", "/v2/models/numeric/infer", infer(empty)).json
    assert answer["outputs"][0] == {"name": "score", "datatype": "FP64", "shape": [0], "data": []}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[1]", "Expected `object`"),
        (b'{"inputs":{}}', "$.inputs"),
        (b'{"inputs":[]}', "expected inputs"),
        (b'{"inputs":[{"name":"rows"}]}', "$.inputs[0]"),
        (b'{"inputs":[],"ouputs":[]}', "ouputs"),
        (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,NaN]}]}', "malformed"),
        (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,1e999]}]}', "out of range"),
        (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":' + b"[" * 50_000, "too deeply"),
        (b'{"id":"\xff","inputs":[]}', "utf-8"),
    ],
)  # fmt: skip
def test_malformed_json_is_a_bad_request_that_names_the_place(lane: Lane, body: bytes, words: str) -> None:
    reply = lane.ask("POST", "/v2/models/numeric/infer", body)
    assert reply.status == 400
    assert words in reply.json["error"]
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([tensor("rows", "FP32", [1, 2, 3, 4], [1, 5])], "expected 5 values"),
        ([tensor("rows", "FP32", [1, 2, 3], [1, 3])], "shape [n, 4]"),
        ([tensor("rows", "FP32", [1, 2, 3, 4], [2**32 + 1, 4])], "values by the shape"),
        ([tensor("rows", "FP32", [1, 2, 3, 4], [-1, 4])], "$.inputs[0].shape[0]"),
        ([tensor("rows", "FP32", [1, 2, 3, 4], [1.5, 4])], "$.inputs[0].shape[0]"),
        ([tensor("rows", "FP32", [1, "2", 3, 4], [1, 4])], "rows"),
        ([tensor("rows", "FP32", [[1, 2], [3]], [1, 4])], "ragged"),
        ([tensor("rows", "FP16", [1, 2, 3, 4], [1, 4])], "FP16"),
        ([tensor("rows", "BF16", [1, 2, 3, 4], [1, 4])], "BF16"),
        ([tensor("rows", "UINT8", [1, 2, 3, 256], [1, 4])], "range of UINT8"),
        ([tensor("rows", "INT32", [1, 2, 3, 4.5], [1, 4])], "rows"),
        ([tensor("rows", "BYTES", ["1", "2", "3", "4"], [1, 4])], "numeric"),
        ([{**MATRIX, "parameters": {"binary_data_size": 32}}], "one of data and binary_data_size"),
        ([{"name": "rows", "datatype": "FP32", "shape": [1, 4]}], "neither data"),
        ([tensor("f0", "FP32", [1]), tensor("f0", "FP32", [1])], "twice"),
        ([tensor("f0", "FP32", [1]), tensor("f1", "FP32", [1, 2])], "2 rows"),
        ([tensor("f0", "FP32", [1])], "f1"),
        ([tensor(f"f{i}", "FP32", [1]) for i in range(5)], "f4"),
    ],
)
def test_a_tensor_that_does_not_fit_is_a_bad_request(
    lane: Lane, inputs: list[dict[str, object]], words: str
) -> None:
    reply = lane.ask("POST", "/v2/models/numeric/infer", infer(*inputs))
    assert reply.status == 400
    assert words in reply.json["error"]


NULLS: dict[str, object] = {"id": None, "parameters": None, "outputs": None}


@pytest.mark.parametrize(
    "more", [NULLS, {"outputs": [{"name": "score", "parameters": None}], "parameters": None}]
)
def test_what_may_be_left_out_may_be_null(lane: Lane, more: dict[str, object]) -> None:
    reply = lane.ask("POST", "/v2/models/numeric/infer", infer({**MATRIX, "parameters": None}, **more))
    assert (reply.status, reply.json["outputs"][0]["data"]) == (200, [30.0, 4.0])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"outputs": [{"name": "nope"}]}, "nope"),
        ({"outputs": [{"name": "score"}, {"name": "score"}]}, "2 times"),
        ({"outputs": [{"name": "score", "parameters": {"classification": 2}}]}, "classification"),
        ({"parameters": {"sequence_id": 7}}, "sequence_id"),
        ({"parameters": {"timeout": "soon"}}, "timeout"),
        ({"parameters": {"binary_data_output": "yes"}}, "binary_data_output"),
        ({"parameters": {"nested": {}}}, "$.parameters"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(lane: Lane, more: dict[str, object], words: str) -> None:
    reply = lane.ask("POST", "/v2/models/numeric/infer", infer(MATRIX, **more))
    assert reply.status == 400
    assert words in reply.json["error"]


def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(lane: Lane) -> None:
    reply = lane.ask("POST", "/v2/models/nope/infer", infer(MATRIX))
    assert reply.status == 404
    assert "mixed, numeric" in reply.json["error"]
    assert lane.ask("GET", "/v2/models/nope/ready").status == 404


def test_an_unknown_path_is_not_found(lane: Lane) -> None:
    reply = lane.ask("GET", "/v2/model")
    assert (reply.status, list(reply.json)) == (404, ["error"])


def test_a_wrong_method_is_said(lane: Lane) -> None:
    reply = lane.ask("GET", "/v2/models/numeric/infer")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


def test_head_has_no_body(lane: Lane) -> None:
    reply = lane.ask("HEAD", "/v2/health/live")
    assert (reply.status, reply.body) == (200, b"")


def test_a_body_over_the_limit_is_refused_before_it_is_read(lane: Lane) -> None:
    reply = lane.ask("POST", "/v2/models/numeric/infer", b"", {"Content-Length": "100001"})
    assert reply.status == 413
    assert "100000" in reply.json["error"]


def test_a_chunked_body_over_the_limit_is_refused_while_it_streams(lane: Lane) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", lane.port, timeout=20)
    connection.putrequest("POST", "/v2/models/numeric/infer")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for _ in range(11):
        connection.send(b"2710\r\n" + b" " * 10_000 + b"\r\n")
    assert connection.getresponse().status == 413
    connection.close()


def test_more_rows_than_the_limit_are_refused(lane: Lane) -> None:
    rows = lane.ask("POST", "/v1/models/numeric/score", {"rows": [{}] * 501})
    assert (rows.status, "501 rows" in rows.json["error"]) == (413, True)
    matrix = tensor("rows", "FP32", [0] * 4 * 501, [501, 4])
    assert lane.ask("POST", "/v2/models/numeric/infer", infer(matrix)).status == 413


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_read(lane: Lane, encoding: str, pack: object) -> None:
    body = b'{"rows":[{"f0":1,"f1":2,"f2":3,"f3":4}]}'
    reply = lane.ask(
        "POST",
        "/v1/models/numeric/score",
        pack(body),
        {"Content-Encoding": encoding},  # type: ignore[operator]
    )
    assert reply.json["scores"] == [30.0]


@pytest.mark.parametrize("at", [0, 1, 20])
def test_a_gzip_body_may_have_several_members(lane: Lane, at: int) -> None:
    body = b'{"rows":[{"f0":1,"f1":2,"f2":3,"f3":4}]}'
    members = gzip.compress(body[:at]) + gzip.compress(body[at:]) + gzip.compress(b"")
    reply = lane.ask("POST", "/v1/models/numeric/score", members, {"Content-Encoding": "gzip"})
    assert reply.json["scores"] == [30.0]


def test_a_compressed_bomb_is_refused(lane: Lane) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    reply = lane.ask("POST", "/v1/models/numeric/score", bomb, {"Content-Encoding": "gzip"})
    assert reply.status == 413


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-5], lambda b: b"x" + b, lambda b: b + b"x", lambda b: b[:-8] + b"\0" * 8]
)
def test_a_spoiled_compressed_body_is_a_bad_request(lane: Lane, spoil: object) -> None:
    body = spoil(gzip.compress(b'{"rows":[]}'))  # type: ignore[operator]
    reply = lane.ask("POST", "/v1/models/numeric/score", body, {"Content-Encoding": "gzip"})
    assert reply.status == 400


def test_an_unknown_encoding_names_the_known_ones(lane: Lane) -> None:
    reply = lane.ask("POST", "/v1/models/numeric/score", b"x", {"Content-Encoding": "br"})
    assert reply.status == 415
    assert reply.headers["accept-encoding"] == "gzip, deflate"


def test_another_media_type_is_refused(lane: Lane) -> None:
    for path in ("/v1/models/numeric/score", "/v2/models/numeric/infer"):
        reply = lane.ask("POST", path, b"<x/>", {"Content-Type": "text/xml"})
        assert reply.status == 415
        assert "application/json" in reply.json["error"]
        assert "accept-encoding" not in reply.headers


def test_a_large_answer_is_compressed_for_who_accepts_it(lane: Lane) -> None:
    rows = {"rows": [{"f0": i / 7, "f1": 2, "f2": 3, "f3": 4} for i in range(300)]}
    plain = lane.ask("POST", "/v1/models/numeric/score", rows)
    packed = lane.ask("POST", "/v1/models/numeric/score", rows, {"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


def test_metrics_count_what_was_asked(lane: Lane) -> None:
    def count() -> float:
        lines = lane.ask("GET", "/metrics").body.decode().splitlines()
        found = [line for line in lines if line.startswith('tandem_rows_total{model="numeric"}')]
        return float(found[0].split()[-1])

    before = count()
    lane.ask("POST", "/v2/models/numeric/infer", infer(MATRIX))
    assert count() == before + 2


def test_an_error_quotes_no_more_than_a_line_of_the_request(lane: Lane) -> None:
    reply = lane.ask("POST", "/v2/models/numeric/infer", infer(tensor("x" * 50_000, "FP32", [1])))
    assert (reply.status, len(reply.json["error"]) < 1100) == (400, True)
