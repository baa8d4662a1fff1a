"""Real flights and a model of them, packed; shared by the tests of the scorer and of what stands on it."""

from pathlib import Path

import lightgbm
import polars as pl
import pytest

from engine.demo.flights import CATEGORIES, FEATURES, LABEL, flights
from engine.packing import pack
from engine.scorer import Scorer


@pytest.fixture(scope="session")
def all_flights() -> pl.DataFrame:
    """The flights of the year."""
    return flights()


@pytest.fixture(scope="session")
def some_flights(all_flights: pl.DataFrame) -> pl.DataFrame:
    """8,000 flights of the year, drawn with a fixed seed; missing values and all."""
    return all_flights.sample(8_000, seed=1)


@pytest.fixture(scope="session")
def late_booster(some_flights: pl.DataFrame) -> lightgbm.Booster:
    """Predicts lateness from strings, small integers and floats."""
    frame = some_flights.select(FEATURES).to_pandas().astype(dict.fromkeys(CATEGORIES, "category"))
    data = lightgbm.Dataset(frame, some_flights[LABEL].to_numpy())
    parameters = {"objective": "binary", "num_leaves": 31, "verbosity": -1, "num_threads": 2}
    return lightgbm.train(parameters, data, num_boost_round=30)


@pytest.fixture(scope="session")
def late_bundle(
    late_booster: lightgbm.Booster, some_flights: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The packed booster, its feature types taken from the flights' own columns."""
    folder = tmp_path_factory.mktemp("late")
    some_flights.head(100).write_parquet(folder / "sample.parquet")
    return pack(late_booster, name="late", out=folder, sample=folder / "sample.parquet")


@pytest.fixture(scope="session")
def late(late_bundle: Path) -> Scorer:
    """The scorer of ``late_bundle``, warmed up."""
    scorer = Scorer.load(late_bundle)
    scorer.warm_up()
    return scorer
