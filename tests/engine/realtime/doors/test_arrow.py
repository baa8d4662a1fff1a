import pyarrow as pa
import pytest

from tests.engine.realtime.running import Lane, Reply

STREAM = "application/vnd.apache.arrow.stream"
TABLE = pa.table(
    {
        "distance": pa.array([100.0, None, 1.0]),
        "carrier": pa.array(["UA", "DL", "AA"]).dictionary_encode(),
        "stops": pa.array([2, 0, 0], pa.int32()),
        "night": [True, True, False],
        "ignored": ["x", "y", "z"],
    }
)


def stream(table: pa.Table, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def post(lane: Lane, body: bytes, **headers: str) -> Reply:
    return lane.ask("POST", "/v1/models/mixed/score", body, {"Content-Type": STREAM, **headers})


def test_a_table_in_is_a_table_of_scores_out(lane: Lane) -> None:
    reply = post(lane, stream(TABLE))
    scores = pa.ipc.open_stream(reply.body).read_all()
    assert reply.headers["content-type"] == STREAM
    assert scores["score"].to_pylist()[::2] == [112.0, 1.0]
    assert scores.schema.metadata[b"revision"].decode() == reply.headers["tandem-revision"]


def test_many_batches_are_one_table(lane: Lane) -> None:
    table = pa.concat_tables([TABLE.slice(0, 1)] * 7)
    scores = pa.ipc.open_stream(post(lane, stream(table)).body).read_all()
    assert scores["score"].to_pylist() == [112.0] * 7


def test_a_bad_row_is_null_and_named(lane: Lane) -> None:
    table = TABLE.set_column(2, "stops", pa.array([2, 1000, 0]))
    scores = pa.ipc.open_stream(post(lane, stream(table)).body).read_all()
    assert scores["score"].is_null().to_pylist() == [False, True, False]
    assert b"row 1: feature 'stops'" in scores.schema.metadata[b"bad_rows"]


def test_json_and_arrow_give_the_same_scores(lane: Lane) -> None:
    rows = TABLE.drop_columns(["ignored"]).to_pylist()
    plain = lane.ask("POST", "/v1/models/mixed/score", {"rows": rows}).json["scores"]
    table = pa.ipc.open_stream(post(lane, stream(TABLE)).body).read_all()
    assert plain[::2] == table["score"].to_pylist()[::2]


def test_no_rows_are_no_scores(lane: Lane) -> None:
    scores = pa.ipc.open_stream(post(lane, stream(TABLE.slice(0, 0))).body).read_all()
    assert (scores.num_rows, scores.column_names) == (0, ["score"])


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_buffers_are_refused_for_they_have_no_bound(lane: Lane, codec: str) -> None:
    reply = post(lane, stream(TABLE, compression=codec))
    assert (reply.status, "compressed" in reply.json["error"]) == (400, True)


@pytest.mark.parametrize(
    "spoil", [lambda b: b"", lambda b: b[:40], lambda b: b"x" * 200, lambda b: b[:-60], lambda b: b[8:]]
)
def test_what_is_no_stream_is_a_bad_request(lane: Lane, spoil: object) -> None:
    reply = post(lane, spoil(stream(TABLE)))  # type: ignore[operator]
    assert (reply.status, list(reply.json)) == (400, ["error"])


@pytest.mark.parametrize("model", ["mixed", "numeric"])
def test_every_changed_byte_is_answered_and_the_engine_lives(lane: Lane, model: str) -> None:
    body = stream(TABLE if model == "mixed" else pa.table({f"f{place}": [1.0] for place in range(4)}))
    for at in range(0, len(body), 23):
        changed = body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]
        reply = lane.ask("POST", f"/v1/models/{model}/score", changed, {"Content-Type": STREAM})
        assert reply.status in (200, 400, 413)


def test_a_name_that_is_no_text_is_a_bad_request(lane: Lane) -> None:
    body = stream(pa.table({f"f{place}": [1.0] for place in range(4)})).replace(b"f3", b"f\xff")
    reply = lane.ask("POST", "/v1/models/numeric/score", body, {"Content-Type": STREAM})
    assert (reply.status, "utf-8" in reply.json["error"]) == (400, True)


def test_a_missing_column_is_named(lane: Lane) -> None:
    reply = post(lane, stream(TABLE.drop_columns(["stops"])))
    assert (reply.status, "stops" in reply.json["error"]) == (400, True)


def test_more_rows_than_the_limit_are_refused(lane: Lane) -> None:
    reply = post(lane, stream(pa.concat_tables([TABLE] * 200)))
    assert (reply.status, "501" in reply.json["error"] or "rows" in reply.json["error"]) == (413, True)


def test_a_run_of_two_thousand_million_rows_is_refused_by_its_count(lane: Lane) -> None:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2**31 - 1], pa.int32()), pa.array([1.0]))
    reply = post(lane, stream(pa.table({"distance": runs})))
    assert reply.status == 413


def test_known_streams_of_numbers_have_the_scores_of_their_own_rows(lane: Lane) -> None:
    for scale in (1.0, 2.0, 3.0):
        table = pa.table({f"f{place}": pa.array([scale, 0.0], pa.float32()) for place in range(4)})
        rows = table.to_pylist()
        plain = lane.ask("POST", "/v1/models/numeric/score", {"rows": rows}).json["scores"]
        reply = lane.ask("POST", "/v1/models/numeric/score", stream(table), {"Content-Type": STREAM})
        assert pa.ipc.open_stream(reply.body).read_all()["score"].to_pylist() == plain


NUMBERS = {"f0": [1.0, 0.5], "f1": [2.0, None], "f2": [3.0, 0.0], "f3": [4.0, 1.0]}


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.float16(), pa.int8(), pa.int64()])
@pytest.mark.parametrize("order", [["f0", "f1", "f2", "f3"], ["f3", "f0", "f2", "x", "f1"]])
def test_numbers_of_any_type_in_any_order_are_the_same_rows(
    lane: Lane, kind: pa.DataType, order: list[str]
) -> None:
    columns = NUMBERS | {"x": ["y", None]}
    values = {name: pa.array(columns[name]) for name in order}
    table = pa.table({name: v if name == "x" else v.cast(kind, safe=False) for name, v in values.items()})
    body = stream(table)
    for _ in range(2):  # the second time its head is known
        reply = lane.ask("POST", "/v1/models/numeric/score", body, {"Content-Type": STREAM})
        scores = pa.ipc.open_stream(reply.body).read_all()["score"].to_pylist()
        assert scores[0] == 30.0


def test_a_column_twice_or_of_a_wrong_type_is_named(lane: Lane) -> None:
    twice = pa.Table.from_arrays([pa.array([1.0])] * 5, names=["f0", "f1", "f2", "f3", "f3"])
    text = pa.table({"f0": ["x"], "f1": [1.0], "f2": [1.0], "f3": [1.0]})
    for table, name in ((twice, "f3"), (text, "f0")):
        reply = lane.ask("POST", "/v1/models/numeric/score", stream(table), {"Content-Type": STREAM})
        assert (reply.status, name in reply.json["error"]) == (400, True)
