"""Searches that take turns."""

import pytest

from load_tests.capacity.turns import Turn, in_turns


def test_runs_alternate_until_the_last_search_has_ended() -> None:
    told: list[str] = []

    def search(name: str, n_runs: int, turn: Turn) -> str:
        for run in range(n_runs):
            with turn():
                told.append(f"{name}{run}")
        return name

    searches = [
        lambda turn, name=name, n=n: search(name, n, turn) for name, n in (("a", 3), ("b", 1), ("c", 2))
    ]
    assert in_turns(searches) == ["a", "b", "c"]
    assert told == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_no_two_runs_overlap() -> None:
    running = 0

    def search(turn: Turn) -> None:
        nonlocal running
        for _ in range(200):
            with turn():
                running += 1
                assert running == 1
                running -= 1

    in_turns([search] * 4)


def test_one_that_fails_lets_the_others_end_and_is_told() -> None:
    ended = []

    def fails(turn: Turn) -> None:
        with turn():
            raise ValueError("unreachable")

    def works(turn: Turn) -> None:
        for _ in range(3):
            with turn():
                pass
        ended.append(True)

    with pytest.raises(ValueError, match="unreachable"):
        in_turns([works, fails, works])
    assert ended == [True, True]
