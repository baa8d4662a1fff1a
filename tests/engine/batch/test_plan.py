import msgspec
from hypothesis import given
from hypothesis import strategies as st

from engine.batch.plan import (
    Fragment,
    InputFile,
    Options,
    Plan,
    RowGroup,
    Unit,
    differences,
    fingerprint,
    spread,
    units_of,
)

ROW_GROUPS = st.lists(st.lists(st.integers(0, 50), max_size=6), max_size=12)


def units(groups: list[list[int]], *, unit_rows: int, limit: int = 0) -> tuple[Unit, ...]:
    """Units of row groups with so many rows, per file."""
    return units_of([[RowGroup(rows) for rows in file] for file in groups], unit_rows=unit_rows, limit=limit)


def test_small_files_are_merged_into_one_unit() -> None:
    assert units([[10], [10], [10]], unit_rows=30) == (
        Unit(0, 30, (Fragment(0, 0, 1, 10), Fragment(1, 0, 1, 10), Fragment(2, 0, 1, 10))),
    )


def test_a_large_file_is_split_between_row_groups() -> None:
    assert units([[10, 10, 10]], unit_rows=20) == (
        Unit(0, 20, (Fragment(0, 0, 2, 20),)),
        Unit(1, 10, (Fragment(0, 2, 3, 10),)),
    )


def test_a_row_group_larger_than_a_unit_is_a_unit() -> None:
    assert [unit.rows for unit in units([[5, 100, 5]], unit_rows=10)] == [5, 100, 5]


def test_a_unit_is_bounded_by_bytes_too() -> None:
    groups = [RowGroup(10, 100), RowGroup(10, 100), RowGroup(10, 300), RowGroup(10, 100)]
    found = units_of([groups], unit_rows=1000, unit_bytes=250)
    assert [unit.rows for unit in found] == [20, 10, 10]


def test_row_groups_that_are_not_read_join_a_unit_and_count_for_the_limit() -> None:
    groups = [RowGroup(10, chosen=False), RowGroup(10), RowGroup(10, chosen=False), RowGroup(10)]
    assert units_of([groups], unit_rows=10, limit=33) == (
        Unit(0, 10, (Fragment(0, 0, 1, 0, 10), Fragment(0, 1, 2, 10), Fragment(0, 2, 3, 0, 10))),
        Unit(1, 3, (Fragment(0, 3, 4, 3),)),
    )


def test_a_limit_cuts_within_a_row_group_and_leaves_the_rest_out() -> None:
    assert units([[10], [10]], unit_rows=100, limit=13) == (
        Unit(0, 13, (Fragment(0, 0, 1, 10), Fragment(1, 0, 1, 3))),
    )


def test_files_without_rows_still_belong_to_a_unit() -> None:
    assert units([[]], unit_rows=10) == (Unit(0, 0, (Fragment(0, 0, 0, 0),)),)


@given(ROW_GROUPS, st.integers(1, 60))
def test_every_row_group_is_in_exactly_one_unit_in_order(groups: list[list[int]], unit_rows: int) -> None:
    found = units(groups, unit_rows=unit_rows)
    planned = [
        (fragment.file, group)
        for unit in found
        for fragment in unit.fragments
        for group in range(fragment.first, fragment.stop)
    ]
    assert planned == [(file, group) for file, rows in enumerate(groups) for group in range(len(rows))]
    assert [unit.index for unit in found] == list(range(len(found)))
    assert sum(unit.rows for unit in found) == sum(map(sum, groups))


@given(ROW_GROUPS, st.integers(1, 60))
def test_a_unit_is_too_large_only_if_one_row_group_is(groups: list[list[int]], unit_rows: int) -> None:
    for unit in units(groups, unit_rows=unit_rows):
        pieces = [rows for f in unit.fragments for rows in groups[f.file][f.first : f.stop] if rows]
        assert unit.rows <= unit_rows or len(pieces) == 1


@given(ROW_GROUPS, st.integers(1, 60), st.integers(1, 200))
def test_a_limit_takes_exactly_so_many_rows_if_there_are_enough(
    groups: list[list[int]], unit_rows: int, limit: int
) -> None:
    found = units(groups, unit_rows=unit_rows, limit=limit)
    assert sum(unit.rows for unit in found) == min(limit, sum(map(sum, groups)))


def test_the_same_model_options_and_files_are_the_same_job() -> None:
    file = InputFile("/a.parquet", 10, 1)
    assert fingerprint("r", Options(), [file]) == fingerprint("r", Options(), [file])
    assert fingerprint("r", Options(), [file]) != fingerprint(
        "r", Options(), [InputFile("/a.parquet", 10, 2)]
    )
    assert fingerprint("r", Options(), [file]) != fingerprint("s", Options(), [file])
    assert fingerprint("r", Options(), [file]) != fingerprint("r", Options(keep=("id",)), [file])


def plan(revision: str = "r1", on_bad_row: str = "fail", size: int = 10) -> Plan:
    file = InputFile("/data/a.parquet", size, 1)
    options = Options(on_bad_row=on_bad_row)
    return Plan("job", "/bundle", revision, ("/data",), options, b"", {}, (file,), ())


def test_differences_name_bundle_options_and_files() -> None:
    assert differences(plan(), plan()) == []
    assert differences(plan(), plan(revision="r2")) == ["the bundle was r1 and is r2"]
    assert differences(plan(), plan(on_bad_row="null")) == ["'on_bad_row' was 'fail' and is 'null'"]
    assert differences(plan(), plan(size=11)) == ["of 1 input files: 1 modified (such as /data/a.parquet)"]


def test_units_made_otherwise_are_a_difference() -> None:
    other = msgspec.structs.replace(plan(), units=(Unit(0, 0, (Fragment(0, 0, 0, 0),)),))
    assert differences(plan(), other) == [
        "its rows were divided into units otherwise, by another version of this software"
    ]


def test_a_small_job_is_spread_and_a_large_one_keeps_its_unit_size() -> None:
    assert spread(1_000_000, 1 << 20) == 1 << 16
    assert spread(3_200_000, 1 << 20) == 200_000
    assert spread(1_000_000_000, 1 << 20) == 1 << 20
    assert spread(1_000_000, 100) == 100
