"""Rows come from Parquet, and what is wrong with it is said."""

from pathlib import Path

import polars as pl
import pytest

from engine.errors import InvalidTable, NotFound
from load_tests.payloads.sample import read_sample


def test_only_the_features_are_read_in_the_model_s_order(sample: Path) -> None:
    table = read_sample(sample, ["distance", "carrier"])
    assert table.column_names == ["distance", "carrier"]
    assert table.num_rows == 3


def test_a_folder_s_files_are_read_in_order_up_to_the_limit(tmp_path: Path) -> None:
    for part in range(3):
        pl.DataFrame({"x": [part, part]}).write_parquet(tmp_path / f"part-{part}.parquet")
    assert read_sample(tmp_path, ["x"], max_rows=3)["x"].to_pylist() == [0, 0, 1]


def test_a_missing_column_is_named_with_the_file(sample: Path) -> None:
    with pytest.raises(InvalidTable, match=r"got none for origin - in .*sample\.parquet"):
        read_sample(sample, ["carrier", "origin"])


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sample.parquet"
    path.write_text("not parquet")
    with pytest.raises(InvalidTable, match=r"cannot be read.*sample\.parquet"):
        read_sample(path, ["x"])


def test_no_file_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds none"):
        read_sample(tmp_path, ["x"])


def test_a_sample_without_rows_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"x": []}, schema={"x": pl.Float64}).write_parquet(tmp_path / "empty.parquet")
    with pytest.raises(InvalidTable, match="expected rows"):
        read_sample(tmp_path, ["x"])
