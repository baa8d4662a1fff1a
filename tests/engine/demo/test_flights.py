"""What is known of a flight before it departs, and nothing of what happened after."""

from pathlib import Path

import polars as pl

from engine.demo.flights import CATEGORIES, FEATURES, FLIGHT_KEY, LABEL, NUMBERS, split, write_parts


def test_every_flight_that_arrived_is_one_row(all_flights: pl.DataFrame) -> None:
    assert all_flights.height == 327_346
    assert all_flights[FLIGHT_KEY].to_list() == list(range(all_flights.height))
    assert all_flights.columns == [FLIGHT_KEY, *FEATURES, LABEL]


def test_types_are_small_and_stated(all_flights: pl.DataFrame) -> None:
    assert {name: all_flights.schema[name] for name in NUMBERS} == NUMBERS
    assert {all_flights.schema[name] for name in CATEGORIES} == {pl.String}


def test_missing_weather_and_unknown_planes_stay_missing(all_flights: pl.DataFrame) -> None:
    nulls = all_flights.null_count().row(0, named=True)
    assert nulls["wind_gust"] > 200_000
    assert nulls["manufacturer"] == 48_329
    assert nulls["carrier"] == nulls[LABEL] == 0


def test_the_first_flight_of_the_year_is_told_as_the_airline_planned_it(all_flights: pl.DataFrame) -> None:
    first = all_flights.filter(carrier="UA", origin="EWR", dest="IAH").row(0, named=True)
    assert (first["departs_minute"], first["arrives_minute"]) == (5 * 60 + 15, 8 * 60 + 19)
    assert (first["month"], first["day"], first["weekday"]) == (1, 1, 2)
    assert (first["manufacturer"], first["plane_year"], first["late"]) == ("BOEING", 1999, False)


def test_the_last_two_months_are_held_out(all_flights: pl.DataFrame) -> None:
    known, held_out = split(all_flights)
    assert known.height + held_out.height == all_flights.height
    assert set(held_out["month"]) == {11, 12}
    assert known["month"].max() == 10


def test_parts_hold_all_rows_in_order(tmp_path: Path) -> None:
    rows = pl.DataFrame({"x": list(range(10))})
    write_parts(rows, tmp_path / "parts", n_parts=4)
    assert len(list((tmp_path / "parts").iterdir())) == 4
    assert pl.read_parquet(tmp_path / "parts" / "*.parquet")["x"].to_list() == list(range(10))
