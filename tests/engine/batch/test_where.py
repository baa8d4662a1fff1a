import datetime

import pyarrow as pa
import pytest

from engine.batch.where import columns_of, condition_of
from engine.errors import InvalidConfig

TABLE = pa.table(
    {
        "month": [1, 6, 11, 12, None],
        "carrier": pa.array(["UA", "AA", "UA", "DL", None]).dictionary_encode(),
        "day": [datetime.date(2013, month, 1) for month in (1, 6, 11, 12, 12)],
        "my column": [1.5, 2.5, 3.5, 4.5, 5.5],
        "late": [True, False, True, None, False],
    }
)


def chosen(text: str) -> list[int]:
    numbered = TABLE.append_column("row", pa.array(range(5)))
    return numbered.filter(condition_of(text))["row"].to_pylist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("month >= 11", [2, 3]),
        ("1 < month <= 11", [1, 2]),
        ("11 <= month", [2, 3]),
        ('carrier == "UA"', [0, 2]),
        ('carrier != "UA"', [1, 3]),
        ('carrier in ["UA", "DL"]', [0, 2, 3]),
        ('carrier not in ("UA", "DL")', [1]),
        ('not carrier in ["UA", "DL"]', [1]),
        ('not carrier not in ["UA", "DL"]', [0, 2, 3]),
        ('not (carrier in ["UA"] and month >= 11)', [0, 1, 3]),
        ('not (carrier in ["UA"] or month == 6)', [3]),
        ('not (carrier in ["UA"] and late is None)', [0, 1, 2, 3, 4]),
        ('not (carrier not in ["UA"] or late)', []),
        ('carrier in ["AA"] or carrier is None', [1, 4]),
        ("month in [1, 6] or not month in [1, 6]", [0, 1, 2, 3]),
        ("carrier is None", [4]),
        ("month is not None and not late", [1]),
        ('month == 1 or carrier == "DL"', [0, 3]),
        ('day >= date("2013-11-01")', [2, 3, 4]),
        ('col("my column") > 4', [3, 4]),
        ("late", [0, 2]),
        ("month > -5 and late == False", [1]),
    ],
)
def test_a_condition_chooses_rows_as_sql_would(text: str, rows: list[int]) -> None:
    assert chosen(text) == rows


@pytest.mark.parametrize(
    "text",
    [
        "month >",
        "month + 1 > 3",
        "__import__('os').system('true')",
        "month.real == 1",
        "date(2013) < day",
        'date("soon") < day',
        "3",
        "month == None",
        "lambda: 1",
        'carrier in [month, "UA"]',
        "month in [[1]]",
        'month in [1, "UA"]',
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig):
        condition_of(text)


def test_null_in_a_list_is_refused_with_the_way_to_choose_nulls() -> None:
    with pytest.raises(
        InvalidConfig, match=r"got None; nulls are chosen by 'or COLUMN is None' - .*'UA', No"
    ):
        condition_of("carrier not in ['UA', None]")


def test_what_cannot_be_read_is_said_without_python_s_own_places() -> None:
    with pytest.raises(InvalidConfig, match=r"got 'month = 3': invalid syntax$"):
        condition_of("month = 3")


def test_the_columns_of_a_condition_are_known() -> None:
    text = 'month > 3 and col("my column") < 1 or day < date("2013-01-01")'
    assert set(columns_of(text)) == {"month", "day", "my column"}


def test_no_text_is_no_condition() -> None:
    assert condition_of("") is None
    assert columns_of("") == ()
