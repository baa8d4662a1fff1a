"""Several searches at a time whose runs take turns: a machine that changes meanwhile changes all of them."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

Result = TypeVar("Result")
Turn = Callable[[], AbstractContextManager[None]]
"""Waits for one's turn; the next one's comes when the block ends."""


def in_turns(searches: Sequence[Callable[[Turn], Result]]) -> list[Result]:
    """Results of searches that do their work within turns, in order; raises what the first to fail raised."""
    order, changed = deque(range(len(searches))), threading.Condition()
    results: dict[int, Result] = {}
    faults: list[BaseException] = []

    def leave(who: int) -> None:
        with changed:
            order.remove(who)
            changed.notify_all()

    def search(who: int) -> None:
        @contextmanager
        def turn() -> Iterator[None]:
            with changed:
                changed.wait_for(lambda: order[0] == who)
            try:
                yield
            finally:
                with changed:
                    order.rotate(-1)
                    changed.notify_all()

        try:
            results[who] = searches[who](turn)
        except BaseException as fault:  # noqa: BLE001 raised again below, for the one who waits
            faults.append(fault)
        finally:
            leave(who)

    # Daemons: Ctrl-C reaches the one who waits for them, and nobody else.
    threads = [threading.Thread(target=search, args=(who,), daemon=True) for who in range(len(searches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return [results[who] for who in range(len(searches))]
