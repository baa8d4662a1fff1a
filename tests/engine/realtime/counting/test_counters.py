import itertools
import multiprocessing
import random
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from engine.realtime.counting.counters import (
    CELLS_PER_MODEL,
    FAMILIES,
    SECONDS,
    SHED,
    ModelCounters,
    offset,
)
from engine.realtime.counting.counters import ROWS as ROWS_IN_BATCH
from engine.realtime.counting.exposition import render
from engine.realtime.counting.node_counters import NodeCounters, directory_of

ROWS = offset("tandem_rows_total")
IN_FLIGHT = offset("tandem_in_flight")
LAST = offset("tandem_last_scored_timestamp_seconds")

NO_TIMES = (0.0,) * 5


def values(text: bytes) -> dict[str, float]:
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_latency_buckets_begin_at_50_microseconds_and_are_fine() -> None:
    assert SECONDS[0] == 50e-6
    assert all(low < high <= 1.7 * low for low, high in itertools.pairwise(SECONDS))


def test_what_is_counted_is_what_is_rendered() -> None:
    counters = ModelCounters()
    counters.request_begun()
    counters.request_scored("oip", 3, 1, True, 0.004, 0.00004, 0.001, 0.002, 60.0)
    counters.batch_scored(3, 0.002)
    counters.request_shed("overloaded")
    counters.settle()
    found = values(render({"m": counters.cells.tolist()}))
    assert found['tandem_requests_total{model="m",door="oip",status="200"}'] == 1
    assert found['tandem_rows_total{model="m"}'] == 3
    assert found['tandem_bad_rows_total{model="m"}'] == 1
    assert found['tandem_late_total{model="m"}'] == 1
    assert found['tandem_shed_total{model="m",reason="overloaded"}'] == 1
    assert found['tandem_in_flight{model="m"}'] == 0
    assert found['tandem_batch_rows_bucket{model="m",le="2"}'] == 0
    assert found['tandem_batch_rows_bucket{model="m",le="4"}'] == 1
    assert found['tandem_stage_seconds_bucket{model="m",stage="decode",le="5e-05"}'] == 1
    assert found['tandem_stage_seconds_bucket{model="m",stage="encode",le="30"}'] == 0
    assert found['tandem_stage_seconds_bucket{model="m",stage="encode",le="+Inf"}'] == 1
    assert found['tandem_request_seconds_sum{model="m"}'] == pytest.approx(0.004)


def test_a_sum_is_told_to_the_last_digit() -> None:
    counters = ModelCounters()
    sums = (
        offset("tandem_request_seconds") + len(SECONDS) + 1,
        offset("tandem_batch_rows") + len(ROWS_IN_BATCH) + 1,
    )
    counters.cells[sums[0]], counters.cells[sums[1]] = 1_234_567_812_345_678, 12_345_678_901
    text = render({"m": counters.cells.tolist()}).decode()
    assert 'tandem_request_seconds_sum{model="m"} 1234567.812345678\n' in text
    assert 'tandem_batch_rows_sum{model="m"} 12345678901\n' in text


def test_every_reason_to_shed_is_there_before_it_was_met() -> None:
    found = values(render({"m": ModelCounters().cells.tolist()}))
    assert [found[f'tandem_shed_total{{model="m",reason="{reason}"}}'] for reason in SHED] == [0, 0, 0]


def test_the_time_of_what_failed_is_counted_and_of_nothing_else() -> None:
    counters = ModelCounters()
    counters.request_scored("oip", 1, 0, False, *NO_TIMES)
    for door, status, took_s in (("grpc", 400, 0.25), ("oip", 429, 0.5)):
        counters.request_begun()
        counters.request_ended(door, status, took_s)
    found = values(render({"m": counters.cells.tolist()}))
    assert found['tandem_failed_seconds_total{model="m"}'] == 0.75


def test_times_are_each_in_their_bucket() -> None:
    counters = ModelCounters()
    draw = random.Random(0)
    times = [tuple(draw.choice((*SECONDS, 1e-7, 0.012, 99.0)) for _ in range(5)) for _ in range(1000)]
    for took in times:
        counters.request_scored("oip", 1, 0, False, *took)
    found = values(render({"m": counters.cells.tolist()}))
    for place, stage in enumerate(
        ("", ',stage="decode"', ',stage="queue"', ',stage="score"', ',stage="encode"')
    ):
        name = "stage" if stage else "request"
        of_stage = [took[place] for took in times]
        assert found[f'tandem_{name}_seconds_sum{{model="m"{stage}}}'] == pytest.approx(sum(of_stage))
        for bound in SECONDS:
            bucket = f'tandem_{name}_seconds_bucket{{model="m"{stage},le="{bound:g}"}}'
            assert found[bucket] == sum(one <= bound for one in of_stage)


def test_every_family_is_rendered_with_its_help_and_type() -> None:
    text = render({"m": [1] * CELLS_PER_MODEL}).decode()
    for family in FAMILIES:
        assert f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n" in text


def replica(directory: Path, pipe: Connection) -> None:
    node = NodeCounters(["a", "b"], directory)
    node.by_model["b"].batch_scored(5, 0.001)
    node.by_model["b"].request_begun()
    node.settle()
    node.by_model["b"].request_begun()
    node.by_model["b"].request_scored("rows", 5, 0, False, *NO_TIMES)  # counted at once: it may be killed now
    pipe.send("counted")
    pipe.recv()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[multiprocessing.Process]:
    """Another replica that has counted five rows and has one request under way."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=replica, args=(tmp_path, theirs))
    process.start()
    assert ours.recv() == "counted"
    yield process  # type: ignore[misc]
    process.kill()
    process.join()
    process.close()
    ours.close()
    theirs.close()


def test_a_node_counts_what_its_replicas_count(tmp_path: Path, other: multiprocessing.Process) -> None:
    node = NodeCounters(["b", "a"], tmp_path)
    node.by_model["a"].request_scored("rows", 2, 0, False, *NO_TIMES)
    totals = node.totals()
    assert (totals["a"][ROWS], totals["b"][ROWS]) == (2, 5)
    assert totals["b"][IN_FLIGHT] == 1
    node.close()


def test_of_moments_the_latest_holds(tmp_path: Path, other: multiprocessing.Process) -> None:
    node = NodeCounters(["a", "b"], tmp_path)
    theirs = node.totals()["b"][LAST]
    assert theirs > 1.7e9
    for ours, latest in ((theirs - 5, theirs), (theirs + 5, theirs + 5)):
        node.by_model["b"].cells[LAST] = ours
        assert node.totals()["b"][LAST] == latest
    assert node.totals()["a"][LAST] == 0
    node.close()


def test_a_killed_replica_is_in_the_totals_but_has_nothing_in_flight(
    tmp_path: Path, other: multiprocessing.Process
) -> None:
    node = NodeCounters(["a", "b"], tmp_path)
    other.kill()
    other.join()
    totals = node.totals()
    assert (totals["b"][ROWS], totals["b"][IN_FLIGHT]) == (5, 0)
    successor = NodeCounters(["a", "b"], tmp_path)
    successor.by_model["b"].request_scored("rows", 1, 0, False, *NO_TIMES)
    assert node.totals()["b"][ROWS] == 6
    successor.close()
    node.close()


def test_a_new_engine_starts_from_nothing(tmp_path: Path, other: multiprocessing.Process) -> None:
    other.kill()
    other.join()
    node = NodeCounters(["a", "b"], tmp_path)
    assert sum(node.totals()["b"]) == 0
    node.close()


def test_the_last_replica_leaves_nothing_behind(tmp_path: Path) -> None:
    directory = tmp_path / "counters"
    directory.mkdir()
    first, second = NodeCounters(["a"], directory), NodeCounters(["a"], directory)
    first.close()
    assert directory.exists()
    second.close()
    assert not directory.exists()


def test_any_free_port_is_counted_in_the_process_alone() -> None:
    assert directory_of(0, ["a"]) is None
    node = NodeCounters(["a"])
    node.by_model["a"].batch_scored(1, 0.0)
    assert sum(node.totals()["a"]) > 0


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = directory_of(1, ["a"])
    assert directory is not None
    directory.rmdir()
    directory.symlink_to("/")
    assert directory_of(1, ["a"]) is None
