"""The pages of a run and of a search say what was found."""

import re
from pathlib import Path

import msgspec

from load_tests.capacity.search import Capacity, Trial
from load_tests.results.printing import describe
from load_tests.results.recording import Recording
from load_tests.results.report import write_capacity_report, write_load_report
from load_tests.results.result import Load, summarise
from load_tests.results.slo import Promise, judge
from load_tests.server_view import ServerView
from load_tests.watching import MachineMoment

LOAD = Load("http://127.0.0.1:8080", "late", "rows", "fast", 3.0, 1, 16, rate=100.0)
PROMISE = Promise(99, 0.02)


def recorded() -> Recording:
    recording = Recording()
    for request in range(290):
        recording.add(request / 100, 0.001 + request / 1e5, 200)
    for _ in range(10):
        recording.add(2.9, 0.001, 429)
    recording.delays.add(0.0001)
    return recording


def test_a_run_s_page_shows_the_engine_s_side_too(tmp_path: Path) -> None:
    server = ServerView(
        290,
        0.001,
        0.004,
        ((0.001, 0.4), (0.004, 1.0)),
        ((1.0, 100), (2.0, 95)),
        {"overloaded": 10},
        {"queue": 1e-4},
    )
    machine = tuple(MachineMoment(at / 2, 0.5, 0.9, 250 << 20) for at in range(1, 7))
    result = summarise(
        LOAD, recorded(), verdict=judge(PROMISE, recorded(), 3.0), server=server, machine=machine
    )
    page = write_load_report(result, tmp_path / "run.html").read_text()
    assert "The promise p99 ≤ 20 ms was missed." in page
    assert page.count("<svg") == 6
    assert "shed: overloaded" in page
    assert "sent after it was due" in page


def test_a_run_without_metrics_or_machine_still_has_its_page(tmp_path: Path) -> None:
    page = write_load_report(
        summarise(LOAD, recorded(), generator_limit="the generator was the limit"), tmp_path / "run.html"
    ).read_text()
    assert page.count("<svg") == 3
    assert "The generator was the limit." in page


def test_a_capacity_s_page_plans_replicas(tmp_path: Path) -> None:
    trials = tuple(
        Trial(rate, 3000, late, rate, 0.001, 0.002 * (1 + late))
        for rate, late in ((500, 0), (1000, 5), (1100, 900))
    )
    capacity = Capacity(PROMISE, 1000.0, 5, 5, 0.02, trials, trials)
    page = write_capacity_report(LOAD, capacity, 4000.0, tmp_path / "found.html").read_text()
    assert "1,000 requests a second" in page
    assert "4,000 requests/s need 5 replicas" in page
    assert page.count("<svg") == 2


def test_a_run_s_page_says_how_it_compares_and_with_what(tmp_path: Path) -> None:
    result = summarise(LOAD, recorded())
    slower = msgspec.structs.replace(result, qps=result.qps / 2, load=msgspec.structs.replace(LOAD, users=3))
    page = write_load_report(result, tmp_path / "run.html", baseline=slower).read_text()
    assert f"Beside the baseline: {describe(slower.load)}" in page
    assert re.search(r"requests/s</td><td class=\"n\">2.00</td><td class=\"n\">better", page)


def test_a_search_that_found_nothing_tells_of_no_repeated_runs(tmp_path: Path) -> None:
    capacity = Capacity(PROMISE, 0.0, 0, 5, 0.0, (Trial(500.0, 3000, 900, 350.0, 0.001, 0.1),), ())
    page = write_capacity_report(LOAD, capacity, 4000.0, tmp_path / "found.html").read_text()
    assert "No rate keeps the promise." in page
    assert "1</b><span>process answers on the port" in page
    assert "repeated runs kept it" not in page
