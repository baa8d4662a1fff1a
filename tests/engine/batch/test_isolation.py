from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch.isolation import find_killers, rows_between, set_apart
from engine.batch.job import score_files
from engine.batch.reading import Piece
from engine.config import Batch
from engine.errors import InvalidTable
from tests.engine.batch.conftest import read, write
from tests.engine.batch.deadly import deadly, numbers

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


@deadly
@pytest.mark.slow
def test_a_row_that_was_cured_is_scored(deadly_bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", numbers(5))
    with pytest.raises(InvalidTable, match="kills the process"):
        score_files(deadly_bundle, [str(data)], str(tmp_path / "out"))
    write(data / "a.parquet", numbers())
    result = score_files(deadly_bundle, [str(data)], str(tmp_path / "out"))
    assert (result.record.rows_out, result.record.rows_bad) == (8, 0)
