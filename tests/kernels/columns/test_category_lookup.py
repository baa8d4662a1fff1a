"""Categories found by hashing, against a dictionary."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.columns.category_lookup import FREE, SIZE_AND_CODE, CategoryTable, find_integers, find_strings

strings = st.one_of(
    st.text("ab\0", max_size=20),
    st.text(max_size=5),
    # Equal in the first and last eight bytes and in length.
    st.text("ab", min_size=3, max_size=3).map(lambda middle: f"the same{middle}the same"),
)
many = settings(max_examples=150, deadline=None)


def found_strings(categories: list[bytes], rows: list[bytes], wide: bool = False) -> list[float]:
    table = CategoryTable.of_strings(categories)
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64 if wide else np.int32)
    out = np.zeros(len(rows))
    find_strings(table.slots, table.text, offsets, np.frombuffer(b"".join(rows), np.uint8), -1.0, out)
    return out.tolist()


@many
@given(st.lists(strings, unique=True, max_size=30), st.lists(strings, max_size=30), st.booleans())
def test_a_string_has_the_code_of_its_place(categories: list[str], others: list[str], wide: bool) -> None:
    known = [category.encode() for category in categories]
    rows = [*known, *(other.encode() for other in others)]
    codes = {category: float(code) for code, category in enumerate(known)}
    assert found_strings(known, rows, wide) == [codes.get(row, -1.0) for row in rows]


@many
@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=30), st.lists(st.integers(-3, 3)))
def test_an_integer_has_the_code_of_its_place(categories: list[int], others: list[int]) -> None:
    table = CategoryTable.of_integers(categories)
    rows = np.array([*categories, *others], np.int64)
    codes = {category: float(code) for code, category in enumerate(categories)}
    out = np.zeros(len(rows), np.float32)
    find_integers(table.slots, rows, np.nan, out)
    np.testing.assert_array_equal(out, [codes.get(row, np.nan) for row in rows.tolist()])


def test_ten_thousand_categories_are_all_found() -> None:
    categories = [f"N{number}".encode() for number in range(10_000)]
    assert found_strings(categories, categories) == list(range(10_000))


def test_there_is_always_a_free_slot_for_a_search_to_end_in() -> None:
    for n_categories in (0, 1, 2, 3, 4, 100, 1000):
        slots = CategoryTable.of_integers(range(n_categories)).slots
        assert (slots[:, SIZE_AND_CODE] != FREE).sum() == n_categories
        assert len(slots) >= max(1, 4 * n_categories)


def test_offsets_outside_of_the_text_count_as_unseen() -> None:
    table = CategoryTable.of_strings([b"", b"UA"])
    text = np.frombuffer(b"UAUA", np.uint8)
    out = np.zeros(4)
    find_strings(table.slots, table.text, np.array([0, 2, 9, -5, 1]), text, -1.0, out)
    assert out.tolist() == [1.0, -1.0, -1.0, -1.0]
