import platform
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from engine.batch.isolation import find_killers, rows_between, set_apart
from engine.batch.job import score_files
from engine.batch.reading import Piece
from engine.bundle import Link, Manifest, Provenance, write_bundle
from engine.config import Batch
from engine.errors import InvalidTable
from engine.schema import Feature, Output, Schema
from tests.engine.batch.conftest import read, write

PIECES = [(Piece("a", 0, 3), pa.table({"x": [0, 1, 2]})), (Piece("b", 10, 2), pa.table({"x": [3, 4]}))]


@given(st.integers(0, 300), st.data())
def test_halving_finds_exactly_the_rows_that_kill(n_rows: int, data: st.DataObject) -> None:
    deadly = data.draw(st.sets(st.integers(0, n_rows - 1), max_size=5)) if n_rows else set()
    found = find_killers(n_rows, lambda start, stop: not deadly & set(range(start, stop)))
    assert sorted(found) == sorted(deadly)


def test_one_killer_in_a_million_rows_costs_about_twenty_tries_each_way() -> None:
    tries = []

    def survives(start: int, stop: int) -> bool:
        tries.append((start, stop))
        return not start <= 765_432 < stop

    assert find_killers(1_000_000, survives) == [765_432]
    assert len(tries) <= 42


def test_rows_between_spans_pieces() -> None:
    found = [(piece.path, piece.row, table["x"].to_pylist()) for piece, table in rows_between(PIECES, 2, 4)]
    assert found == [("a", 2, [2]), ("b", 10, [3])]


@given(st.sets(st.integers(0, 4)))
def test_killers_are_set_apart_and_no_row_is_lost(offsets: set[int]) -> None:
    parts = list(set_apart(PIECES, sorted(offsets)))
    assert [x for _, table, _ in parts for x in table["x"].to_pylist()] == [0, 1, 2, 3, 4]
    assert {x for _, table, kills in parts if kills for x in table["x"].to_pylist()} == offsets
    assert all(piece.rows == table.num_rows for piece, table, _ in parts)


@pytest.fixture(scope="module")
def deadly_bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A graph that answers x; where x is 13 it divides so that the processor kills it."""
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Sub", ["whole", "fourteen"], ["distance"]),
        helper.make_node("Div", ["least", "distance"], ["inverse"]),
        helper.make_node("Cast", ["inverse"], ["floating"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floating", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    constants = [
        helper.make_tensor("fourteen", TensorProto.INT64, [1], [14]),
        helper.make_tensor("least", TensorProto.INT64, [1], [-(2**63)]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "deadly", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    schema = Schema((Feature("x", "float32"),), "float32", Output("y", "float32"))
    manifest = Manifest("deadly", "onnx", schema, Link(), Provenance("onnx"))
    files = {"model.onnx": model.SerializeToString()}
    return str(write_bundle(manifest, files, tmp_path_factory.mktemp("deadly")))


def numbers(*odd: int, value: float = 13) -> pa.Table:
    """Eight rows of 100, but 13 (which kills) or another value at the rows given."""
    values = np.full(8, 100, np.float32)
    values[list(odd)] = value
    return pa.table({"id": range(8), "x": values})


X86 = platform.machine() in {"x86_64", "AMD64"}
deadly = pytest.mark.skipif(not X86, reason="other processors divide so without dying of it")


@deadly
@pytest.mark.slow
def test_rows_that_kill_their_process_are_set_aside_and_the_rest_is_scored(
    deadly_bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", numbers(), row_group_rows=8)
    write(data / "b.parquet", numbers(6), row_group_rows=8)
    settings = Batch(keep=("id",), unit_rows=8, on_bad_row="quarantine")
    result = score_files(deadly_bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    assert read(tmp_path / "out")["y"].to_pylist() == [100.0] * 15
    aside = pq.read_table(tmp_path / "out" / "_quarantine").to_pydict()
    assert (aside["id"], aside["_row"]) == ([6], [6])
    assert set(aside["_reason"]) == {"kills the process that scores it"}
    assert result.record.reasons == {"kills the process that scores it": 1}


@deadly
@pytest.mark.slow
def test_a_row_that_kills_fails_the_job_by_its_place_if_rows_must_be_good(
    deadly_bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", numbers(5))
    with pytest.raises(InvalidTable, match=r"kills the process that scores it - at row 5 of .*a.parquet"):
        score_files(deadly_bundle, [str(data)], str(tmp_path / "out"))


def test_a_row_on_which_the_model_fails_is_bad_alone(deadly_bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", numbers(3, 4, 7, value=14))
    settings = Batch(keep=("id",), on_bad_row="null")
    result = score_files(deadly_bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    scores = read(tmp_path / "out")["y"].to_pylist()
    assert [row for row, score in enumerate(scores) if score is None] == [3, 4, 7]
    assert [reason.split(":")[0] for reason in result.record.reasons] == ["the model failed on it"]
    assert result.record.rows_bad == 3
