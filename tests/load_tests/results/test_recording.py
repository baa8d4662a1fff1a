"""Outcomes land in the second in which the request was due."""

import msgspec

from load_tests.results.recording import MAX_REASONS, Recording
from load_tests.results.result import Load, read_result, summarise, write_json

LOAD = Load(
    url="http://127.0.0.1:1", model="late", wire="rows", generator="fast",
    duration_s=2.0, rows_per_request=3, users=4,
)  # fmt: skip


def recorded() -> Recording:
    recording = Recording()
    recording.add(0.5, 0.010, 200)
    recording.add(1.2, 0.020, 200)
    recording.add(1.9, 0.001, 429)
    recording.add(1.9, 0.5, 0, "connection reset")
    return recording


def test_a_summary_counts_outcomes_and_rows() -> None:
    result = summarise(LOAD, recorded())
    assert (result.ok, result.shed, result.failed, result.requests) == (2, 1, 1, 4)
    assert (result.qps, result.rows_per_s) == (1.0, 3.0)
    assert result.errors == {"connection reset": 1}


def test_each_second_holds_what_was_due_in_it() -> None:
    first, second = summarise(LOAD, recorded()).moments
    assert (first.second, first.ok, first.shed, first.failed) == (0, 1, 0, 0)
    assert (second.second, second.ok, second.shed, second.failed) == (1, 1, 1, 1)


def test_latencies_are_those_of_answered_requests_only() -> None:
    assert summarise(LOAD, recorded()).latency.highest_s == 0.020


def test_a_run_without_answers_has_no_percentiles() -> None:
    recording = Recording()
    recording.add(0.0, 1.0, 500)
    result = summarise(LOAD, recording)
    assert result.latency.p99_s is None
    assert result.errors == {"HTTP status 500": 1}


def test_recordings_of_two_processes_add_up() -> None:
    both = recorded()
    both.merge(recorded())
    result = summarise(LOAD, both)
    assert (result.ok, result.shed, result.failed) == (4, 2, 2)
    assert result.errors == {"connection reset": 2}


def test_a_recording_survives_the_way_between_processes() -> None:
    sent = msgspec.msgpack.encode(recorded())
    assert msgspec.msgpack.decode(sent, type=Recording) == recorded()


def test_endless_kinds_of_errors_are_bounded() -> None:
    recording = Recording()
    for number in range(MAX_REASONS + 10):
        recording.add(0.0, 1.0, 0, f"reason {number}")
    assert len(recording.errors) == MAX_REASONS + 1
    assert recording.errors["other reasons"] == 10


def test_a_result_is_read_as_it_was_written(tmp_path) -> None:
    result = summarise(LOAD, recorded(), generator_limit="a reason")
    write_json(result, tmp_path / "deep" / "result.json")
    assert read_result(tmp_path / "deep" / "result.json") == result
