import pytest

from engine.realtime.batching.queueing import Batch, Queue, Ticket

A, B = "revision a", "revision b"


def ticket(n_rows: int, *, deadline_s: float = 100.0, group: object = A) -> Ticket:
    return Ticket(group, n_rows, 0.0, deadline_s)


def queue_of(*tickets: Ticket, max_rows: int = 8) -> Queue[Ticket]:
    queue: Queue[Ticket] = Queue(max_rows)
    for one in tickets:
        queue.push(one)
    return queue


def parts(batch: Batch[Ticket]) -> list[tuple[Ticket, int, int]]:
    return [(part.ticket, part.start, part.stop) for part in batch.slices]


def test_a_batch_takes_all_that_waits() -> None:
    first, second = ticket(3), ticket(2)
    queue = queue_of(first, second)
    assert parts(queue.take(1.0)) == [(first, 0, 3), (second, 0, 2)]
    assert queue.n_rows == 0
    assert first.started_s == 1.0


def test_nothing_waiting_is_an_empty_batch() -> None:
    assert queue_of().take(0.0).slices == []


def test_a_batch_is_filled_to_the_last_row() -> None:
    first, second = ticket(6), ticket(6)
    queue = queue_of(first, second)
    assert parts(queue.take(0.0)) == [(first, 0, 6), (second, 0, 2)]
    assert parts(queue.take(0.0)) == [(second, 2, 6)]


def test_a_long_request_and_short_ones_take_turns() -> None:
    long = ticket(20)
    queue = queue_of(long)
    for _ in range(4):
        queue.push(ticket(8))
    firsts = [queue.take(0.0).slices[0].ticket is long for _ in range(6)]
    assert firsts == [False, True, False, True, False, True]


def test_a_long_request_alone_takes_every_turn() -> None:
    long = ticket(20)
    queue = queue_of(long)
    assert [parts(queue.take(0.0)) for _ in range(3)] == [[(long, 0, 8)], [(long, 8, 16)], [(long, 16, 20)]]


def test_a_cancelled_request_is_never_scored_and_leaves_the_count_at_once() -> None:
    first, second = ticket(3), ticket(2)
    queue = queue_of(first, second)
    queue.cancel(first)
    assert queue.n_rows == 2
    assert parts(queue.take(0.0)) == [(second, 0, 2)]


def test_cancelling_twice_counts_once() -> None:
    first = ticket(3)
    queue = queue_of(first, ticket(1))
    queue.cancel(first)
    queue.cancel(first)
    assert queue.n_rows == 1


def test_the_rest_of_a_cancelled_long_request_is_dropped() -> None:
    long, short = ticket(20), ticket(2)
    queue = queue_of(long)
    queue.take(0.0)
    queue.cancel(long)
    queue.push(short)
    assert parts(queue.take(0.0)) == [(short, 0, 2)]
    assert queue.n_rows == 0


def test_a_request_past_its_deadline_is_handed_back_unscored() -> None:
    late, timely = ticket(3, deadline_s=1.0), ticket(2, deadline_s=3.0)
    batch = queue_of(late, timely).take(2.0)
    assert batch.expired == [late]
    assert parts(batch) == [(timely, 0, 2)]


def test_a_batch_has_one_revision() -> None:
    old, new = ticket(1, group=A), ticket(1, group=B)
    queue = queue_of(old, new)
    assert [parts(queue.take(0.0)) for _ in range(2)] == [[(old, 0, 1)], [(new, 0, 1)]]


@pytest.mark.parametrize("max_rows", [1, 2, 8, 100])
def test_every_row_is_taken_once_and_in_order(max_rows: int) -> None:
    tickets = [ticket(size) for size in (1, 30, 7, 2, 64, 1)]
    queue = queue_of(*tickets, max_rows=max_rows)
    taken: dict[int, list[int]] = {id(one): [] for one in tickets}
    while batch := parts(queue.take(0.0)):
        assert sum(stop - start for _, start, stop in batch) <= max_rows
        for one, start, stop in batch:
            taken[id(one)] += range(start, stop)
    assert [taken[id(one)] for one in tickets] == [list(range(one.n_rows)) for one in tickets]
