import asyncio
import math
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import DeadlineExceeded, Overloaded, ScoringFailed
from engine.realtime.batching import batcher
from engine.realtime.batching.admission import Admission
from engine.realtime.batching.batcher import INLINE_S, Batcher
from engine.realtime.batching.waiting import Result, Waiting

Block = NDArray[Any]


class Sums:
    """Scores a row by its sum; raises on a batch with a 13; notes its batches and its threads."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def score_rows(self, X: Block) -> Block:
        self.batches.append(len(X))
        self.threads.add(threading.get_ident())
        self.entered.set()
        self.gate.wait(10)
        if (X == 13).any():
            raise ValueError("unlucky")
        return X.sum(axis=1, keepdims=True)


class Tally:
    """Counts what a batcher reports."""

    def __init__(self) -> None:
        self.shed: list[str] = []
        self.rows = 0

    def batch_scored(self, n_rows: int, cost_s: float) -> None:
        self.rows += n_rows

    def request_shed(self, reason: str) -> None:
        self.shed.append(reason)


class Bench:
    """A batcher with a cheap model, or with one that is believed to be dear."""

    def __init__(self, *, dear: bool = False, slo_s: float = 60.0, max_rows: int = 64) -> None:
        self.tally = Tally()
        self.model = Sums()
        admission = Admission(slo_s, max_rows)
        if dear:
            admission.observe(1, 10 * INLINE_S)
        self.batcher = Batcher(admission, self.tally)

    async def score(self, X: Block, budget_s: float = 60.0) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        ticket = self.submit(X, budget_s, future)
        try:
            return await future
        except asyncio.CancelledError:
            self.batcher.cancel(ticket)
            raise

    def submit(self, X: Block, budget_s: float, waiter: "asyncio.Future[Result]") -> Waiting:
        return self.batcher.submit(self.model, X, time.perf_counter(), budget_s, waiter)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def block(*rows: float) -> Block:
    return np.array(rows, float)[:, None] * np.ones((1, 2))


def test_what_arrives_together_is_scored_together_on_the_loop() -> None:
    async def scenario() -> None:
        bench = Bench()
        scored = await asyncio.gather(*(bench.score(block(value)) for value in range(10)))
        assert [float(one.scores[0, 0]) for one in scored] == [2.0 * value for value in range(10)]
        assert bench.model.batches == [10]
        assert bench.model.threads == {threading.get_ident()}
        assert bench.tally.rows == 10

    run(scenario)


def test_a_dear_model_runs_in_a_thread_and_the_next_batch_grows_meanwhile() -> None:
    async def scenario() -> None:
        bench = Bench(dear=True)
        bench.model.gate.clear()
        first = asyncio.ensure_future(bench.score(block(1)))
        await asyncio.to_thread(bench.model.entered.wait, 10)
        others = [asyncio.ensure_future(bench.score(block(value))) for value in range(5)]
        await asyncio.sleep(0)
        bench.model.gate.set()
        await asyncio.gather(first, *others)
        assert bench.model.batches == [1, 5]
        assert threading.get_ident() not in bench.model.threads
        bench.batcher.close()

    run(scenario)


def test_rows_that_wait_have_a_bound_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "MAX_WAITING_BYTES", 10 * block(0).nbytes)

    async def scenario() -> None:
        bench = Bench(dear=True)
        bench.model.gate.clear()
        first = asyncio.ensure_future(bench.score(block(1)))
        await asyncio.to_thread(bench.model.entered.wait, 10)
        waiting = asyncio.ensure_future(bench.score(block(*range(11))))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="11 rows wait, which is all that memory is kept for"):
            await bench.score(block(2))
        bench.model.gate.set()
        await asyncio.gather(first, waiting)
        assert (await bench.score(block(2))).scores.tolist() == [[4.0]]
        bench.batcher.close()

    run(scenario)


def test_requests_that_wait_have_a_bound_however_tiny_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "MAX_WAITING_BYTES", 10 * (block(0).nbytes + batcher.TICKET_BYTES))

    async def scenario() -> None:
        bench = Bench(dear=True)
        bench.model.gate.clear()
        first = asyncio.ensure_future(bench.score(block(1)))
        await asyncio.to_thread(bench.model.entered.wait, 10)
        waiting = [asyncio.ensure_future(bench.score(block(2))) for _ in range(20)]
        await asyncio.sleep(0)
        assert bench.batcher.queue.n_tickets == 11
        bench.model.gate.set()
        outcomes = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert [isinstance(one, Overloaded) for one in outcomes] == [False] * 12 + [True] * 9
        bench.batcher.close()

    run(scenario)


def test_a_request_longer_than_a_batch_comes_back_whole() -> None:
    async def scenario() -> None:
        bench = Bench(max_rows=8)
        X = block(*range(100, 130))
        long, short = await asyncio.gather(bench.score(X), bench.score(block(1)))
        assert (long.scores[:, 0] == X.sum(axis=1)).all()
        assert short.scores.tolist() == [[2.0]]
        assert max(bench.model.batches) <= 8

    run(scenario)


def test_a_row_that_the_model_raises_on_fails_alone() -> None:
    async def scenario() -> None:
        bench = Bench(max_rows=8)
        good, mixed, bad = await asyncio.gather(
            bench.score(block(1)), bench.score(block(2, 13, 3)), bench.score(block(13))
        )
        assert good.bad == {}
        assert good.scores.tolist() == [[2.0]]
        assert mixed.bad == {1: "unlucky"}
        assert mixed.scores[[0, 2], 0].tolist() == [4.0, 6.0]
        assert bad.bad == {0: "unlucky"}

    run(scenario)


def test_a_cancelled_request_is_not_scored_and_its_neighbours_are() -> None:
    async def scenario() -> None:
        bench = Bench(dear=True)
        bench.model.gate.clear()
        first = asyncio.ensure_future(bench.score(block(1)))
        await asyncio.to_thread(bench.model.entered.wait, 10)
        gone = asyncio.ensure_future(bench.score(block(2, 2, 2)))
        stays = asyncio.ensure_future(bench.score(block(3)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        bench.model.gate.set()
        await asyncio.gather(first, stays)
        assert bench.model.batches == [1, 1]
        assert bench.tally.shed == ["cancelled"]
        bench.batcher.close()

    run(scenario)


def test_of_a_cancelled_request_nothing_is_kept_but_its_place() -> None:
    async def scenario() -> None:
        bench = Bench(dear=True)
        bench.model.gate.clear()
        first = asyncio.ensure_future(bench.score(block(1)))
        await asyncio.to_thread(bench.model.entered.wait, 10)
        X, waiter = block(2, 2, 2), asyncio.get_running_loop().create_future()
        kept = weakref.ref(X), weakref.ref(waiter)
        bench.batcher.cancel(bench.submit(X, 60.0, waiter))
        del X, waiter
        assert [one() is None for one in kept] == [True, True]
        assert bench.batcher.queue.n_tickets == 1
        bench.model.gate.set()
        await first
        bench.batcher.close()

    run(scenario)


def test_a_request_whose_deadline_passes_in_the_queue_is_told_and_not_scored() -> None:
    async def scenario() -> None:
        bench = Bench()
        with pytest.raises(DeadlineExceeded):
            await bench.score(block(1), budget_s=-1.0)
        assert bench.model.batches == []
        assert bench.tally.shed == ["expired"]

    run(scenario)


def test_a_request_that_would_be_late_is_refused_at_once() -> None:
    async def scenario() -> None:
        bench = Bench(dear=True)
        bench.model.gate.clear()
        first = asyncio.ensure_future(bench.score(block(1)))
        await asyncio.to_thread(bench.model.entered.wait, 10)
        with pytest.raises(Overloaded, match="not in time"):
            await bench.score(block(2), budget_s=INLINE_S)
        bench.model.gate.set()
        await first
        assert bench.tally.shed == ["overloaded"]
        bench.batcher.close()

    run(scenario)


class Clumsy:
    """A waiter that fails at what it is told."""

    def done(self) -> bool:
        return False

    def set_result(self, result: Result, /) -> None:
        raise OSError("the socket is gone")

    def set_exception(self, error: Exception, /) -> None:
        raise OSError("the socket is gone")


def test_a_waiter_that_fails_does_not_stop_the_batcher() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.batcher.submit(bench.model, block(1), time.perf_counter(), -1.0, Clumsy())
        bench.batcher.submit(bench.model, block(1), time.perf_counter(), 60.0, Clumsy())
        assert (await bench.score(block(2))).scores.tolist() == [[4.0]]
        assert (await bench.score(block(3))).scores.tolist() == [[6.0]]

    run(scenario)


def test_what_is_read_now_came_after_the_last_run_but_one() -> None:
    now_s = 0.0
    batcher = Batcher(Admission(60.0, 64), Tally(), clock=lambda: now_s)

    async def scenario() -> None:
        nonlocal now_s
        for _ in range(2):
            assert batcher.unread_s() == math.inf
            now_s += 1.0
            future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            batcher.submit(Sums(), block(1.0), now_s, 60.0, future)
            await future
        now_s += 0.25
        assert batcher.unread_s() == 1.25

    run(scenario)


class Tripled(Sums):
    """Three outputs a row; raises on a negative one."""

    def score_rows(self, X: Block) -> Block:
        if (X < 0).any():
            raise ValueError("negative")
        return np.tile(super().score_rows(X), (1, 3))


@pytest.mark.parametrize("dear", [False, True])
@pytest.mark.parametrize("failing", [slice(0, 4), slice(4, 8)])
def test_a_part_of_a_long_request_that_fails_wholly_has_the_outputs_of_the_others(
    dear: bool, failing: slice
) -> None:
    async def scenario() -> None:
        bench = Bench(dear=dear, max_rows=4)
        bench.model = Tripled()
        X = block(*[1.0] * 8)
        X[failing] = -1
        result = await bench.score(X)
        bad = range(8)[failing]
        assert set(result.bad) == set(bad)
        assert np.isnan(result.scores[bad]).all()
        assert (np.delete(result.scores, bad, axis=0) == np.full((4, 3), 2.0)).all()
        assert (await bench.score(block(2))).scores.tolist() == [[4.0] * 3]
        bench.batcher.close()

    run(scenario)


def raising(*_: object) -> Any:
    raise MemoryError("no room for 3 GiB")


@pytest.mark.parametrize("step", ["joined", "give_part"])
@pytest.mark.parametrize("dear", [False, True])
def test_a_batch_that_cannot_be_scored_is_told_so_and_the_next_is_scored(
    dear: bool, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        bench = Bench(dear=dear, max_rows=8)
        with monkeypatch.context() as patched:
            patched.setattr(batcher, step, raising)
            with pytest.raises(ScoringFailed, match="could not be scored"):
                await bench.score(block(*range(20)))
        assert bench.batcher.queue.n_rows == 0
        assert (await bench.score(block(2))).scores.tolist() == [[4.0]]
        assert bench.tally.shed == []
        bench.batcher.close()

    run(scenario)


def test_where_there_is_no_thread_a_batch_is_told_so_and_the_next_finds_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        bench = Bench(dear=True)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", raising)
            with pytest.raises(ScoringFailed):
                await bench.score(block(1))
        assert (await bench.score(block(2))).scores.tolist() == [[4.0]]
        assert bench.model.batches == [1]
        bench.batcher.close()

    run(scenario)
