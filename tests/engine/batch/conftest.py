"""A model simple enough to check by hand, and Parquet files for it."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.batch.job import options_of
from engine.batch.manifest import encode
from engine.batch.output import open_output
from engine.batch.plan import PLAN, Plan
from engine.batch.planning import make_plan
from engine.batch.records import Records
from engine.batch.runners import choose
from engine.batch.work import Work
from engine.batch.writing import UnitWriter
from engine.bundle import Link, Manifest, Provenance, npz, read_bundle, write_bundle
from engine.config import Batch
from engine.schema import Feature, Output, Schema
from engine.scorer import Scorer
from tests.engine.batch.deadly import make_deadly_bundle

CARRIERS = ("AA", "DL", "UA")
COEF = (2.0, -3.0, 100.0)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The bundle of ``make_bundle``; compiled here, once, and not by all workers of Ray at the same time."""
    bundle = make_bundle(tmp_path_factory.mktemp("bundles"))
    Scorer.load(bundle).warm_up()
    return bundle


@pytest.fixture(scope="session")
def deadly_bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The bundle of ``make_deadly_bundle``."""
    return make_deadly_bundle(tmp_path_factory.mktemp("deadly"))


def make_bundle(directory: Path) -> str:
    """score = 2 * amount - 3 * count + 100 * (place of carrier in AA, DL, UA)."""
    schema = Schema(
        features=(
            Feature("amount", "float64", required=True),
            Feature("count", "int32"),
            Feature("carrier", "category", categories=CARRIERS, unseen="bad"),
        ),
        output=Output("score"),
    )
    manifest = Manifest("fares", "linear", schema, Link(), Provenance("sklearn"))
    arrays = npz({"coef": np.array([COEF]), "intercept": np.zeros(1)})
    return str(write_bundle(manifest, {"linear.npz": arrays}, directory))


def rows(start: int, n: int) -> pa.Table:
    """``n`` good rows whose ids count up from ``start``; all values follow from the id."""
    ids = np.arange(start, start + n)
    return pa.table(
        {
            "id": ids,
            "amount": ids * 0.5,
            "count": pa.array(ids % 7, pa.int32()),
            "carrier": [CARRIERS[i % 3] for i in ids],
        }
    )


def expected(ids: Sequence[int]) -> list[float]:
    """The scores of the rows with these ids."""
    return [2 * (i * 0.5) - 3 * (i % 7) + 100 * (i % 3) for i in ids]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty directory for input files."""
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


def write(path: Path, table: pa.Table, row_group_rows: int = 100) -> None:
    """Write a Parquet file, its directory too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_rows)


def destroy(path: Path, group: int) -> None:
    """Overwrite the pages of a row group, so that no column of it can be read; size and time stay."""
    before = path.stat()
    meta = pq.read_metadata(path).row_group(group)
    content = bytearray(path.read_bytes())
    for column in map(meta.column, range(meta.num_columns)):
        start = column.dictionary_page_offset or column.data_page_offset
        content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def read(output: Path) -> pa.Table:
    """The rows of an output, by id."""
    return pq.read_table(output).sort_by("id")


def hidden(output: Path) -> Path:
    """Where a job's records lie while it is unfinished."""
    return output.with_name(f".{output.name}.tandem")


def attempt(work: Work, index: int) -> UnitWriter:
    """An attempt at a unit that is written and not committed."""
    unit = work.plan.units[index]
    writer = work.writer(unit, "test")
    for n_rows, table in work.score_all(unit, work.read(unit)):
        writer.read(n_rows)
        writer.write(table)
    return writer


def begin(bundle: str, data: Path, output: Path, settings: Batch, n_units: int) -> Plan:
    """A driver that ends after its first units, without a word."""
    model = read_bundle(bundle)
    plan = make_plan(model, bundle, [str(data)], options_of(settings)).plan
    place = open_output(str(output))
    with place.alone(plan.job, wait=False):
        store = place.store(plan.job)
        store.put(PLAN, encode(plan))
        choose(settings, model.manifest)(Records.of(store, plan), plan, plan.units[:n_units])
    return plan
