import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.batch.estimate import Sample, advice, take_sample
from engine.batch.fragments import Footer
from engine.batch.job import dry_run, options_of, score_files
from engine.batch.output import open_output
from engine.batch.planning import make_plan
from engine.batch.records import Records
from engine.batch.work import make_work
from engine.bundle import read_bundle
from engine.config import Batch
from engine.errors import InvalidTable, OutputExists
from tests.engine.batch.conftest import rows, write

SLOW = Sample(1000, 2.0, 1.0, 8000, 8000, 1.0, (), "SNAPPY")


def footer(*groups: int) -> Footer:
    return Footer(pa.schema([]), groups, groups)


def sample_of(bundle: str, inputs: list[str], output: str) -> Sample | None:
    """The row group that a dry run reads; what it finds there does not depend on a clock."""
    model = read_bundle(bundle)
    planned = make_plan(model, bundle, inputs, options_of(Batch()))
    records = Records.of(open_output(output).store(planned.plan.job), planned.plan)
    return take_sample(planned, make_work(planned.plan, records, model.manifest.schema))


def test_a_dry_run_counts_from_footers_and_writes_nothing(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 250))
    write(data / "b.parquet", rows(0, 50))
    found = dry_run(
        bundle, [str(data)], str(tmp_path / "out"), settings=Batch(keep=("id",), unit_rows=100, threads=2)
    )
    assert (found.rows, found.n_files, found.n_units, found.cores) == (300, 2, 3, 2)
    assert found.input_bytes == sum(path.stat().st_size for path in data.iterdir())
    assert found.seconds > 0
    assert os.listdir(tmp_path) == ["data"]
    assert str(found).startswith("300 rows in 2 files")


def test_a_dry_run_refuses_what_the_job_would_refuse(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", rows(0, 10).drop_columns(["amount"]))
    with pytest.raises(InvalidTable, match="amount"):
        dry_run(bundle, [str(data)], str(tmp_path / "out"))


def test_a_dry_run_refuses_an_output_that_the_job_would_refuse(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 100))
    score_files(bundle, [str(data)], str(tmp_path / "out"))
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir())
    assert dry_run(bundle, [str(data)], str(tmp_path / "out")).rows == 100  # the very same job
    other = Batch(keep=("id",))
    with pytest.raises(OutputExists, match="--mode overwrite"):
        dry_run(bundle, [str(data)], str(tmp_path / "out"), settings=other)
    overwriting = Batch(keep=("id",), mode="overwrite")
    assert dry_run(bundle, [str(data)], str(tmp_path / "out"), settings=overwriting).rows == 100
    assert sorted(path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()) == before


def test_the_estimated_output_is_about_as_large_as_the_real_one(
    bundle: str, data: Path, tmp_path: Path
) -> None:
    write(data / "a.parquet", rows(0, 20_000), row_group_rows=10_000)
    settings = Batch(keep=("id",))
    found = dry_run(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    assert found.output_bytes == pytest.approx(sum(part.size for part in result.manifest.parts), rel=0.3)


def test_tiny_row_groups_are_told(bundle: str) -> None:
    (sentence,) = advice([footer(*[100] * 50)], SLOW, rows=5000, cores=2)[:1]
    assert sentence == "half of the 50 row groups have fewer than 10,000 rows; a million is better"


def test_floats_in_dictionaries_and_slow_codecs_are_told_with_what_a_rewrite_saves() -> None:
    floats = Sample(1000, 2.0, 1.0, 8000, 8000, 1.0, ("x", "y"), "SNAPPY")
    zstd = Sample(1000, 2.0, 1.0, 8000, 8000, 1.0, (), "ZSTD")
    (told,) = advice([footer(20_000)], floats, rows=4000, cores=2)
    assert "2 columns of floats (such as 'x')" in told
    assert "saves about 2.0 s" in told
    assert advice([footer(20_000)], floats, rows=100, cores=2) == ()  # 50 ms are not worth a rewrite
    (told,) = advice([footer(20_000)], zstd, rows=4000, cores=2)
    assert "ZSTD" in told


def test_a_good_layout_is_left_in_peace() -> None:
    good = Sample(1000, 1.0, 1.0, 8000, 8000, 1.0, ("x",), "SNAPPY")
    assert advice([footer(1_000_000)], good, rows=1_000_000, cores=2) == ()


def test_dictionaries_of_floats_are_found_in_a_real_file(bundle: str, data: Path, tmp_path: Path) -> None:
    amounts = pa.array(np.random.default_rng(0).normal(size=20_000))
    pq.write_table(rows(0, 20_000).set_column(1, "amount", amounts), data / "a.parquet", compression="gzip")
    found = sample_of(bundle, [str(data)], str(tmp_path / "out"))
    assert found is not None
    assert "amount" in found.dictionary_floats
    assert found.codec == "GZIP"


def test_a_plain_file_has_no_dictionaries_of_floats(bundle: str, data: Path, tmp_path: Path) -> None:
    pq.write_table(rows(0, 20_000), data / "a.parquet", use_dictionary=False)
    found = sample_of(bundle, [str(data)], str(tmp_path / "out"))
    assert found is not None
    assert found.dictionary_floats == ()
    assert found.codec == "SNAPPY"
