"""What a run leaves behind, and the exit codes a build can gate on."""

import csv
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from engine.cli.app import app
from engine.errors import Failed, InvalidConfig, NotFound, PortTaken
from load_tests.capacity import finding
from load_tests.capacity.search import Capacity
from load_tests.command import Wishes, plan_load
from load_tests.results.recording import Recording
from load_tests.results.result import Load, LoadResult, read_json, read_result, summarise, write_json
from load_tests.results.slo import Promise
from load_tests.verb import Outputs, load_test, open_web_page, search


def answer_at_once(path: str, body: bytes) -> tuple[int, bytes]:
    return 200, b'{"scores": [0.5]}'


def planned(server: Any, sample: Path, **wishes: Any) -> tuple[Any, str]:
    chosen = {"generator": "fast", "duration": "0.5s", "rate": 100.0, **wishes}
    return plan_load(server.url, Wishes(sample=str(sample), **chosen))


def test_a_run_leaves_json_csv_and_a_page(serving: Any, sample: Path, tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "run.json", tmp_path / "run.csv", tmp_path / "run.html")
    assert load_test(*planned(serving(answer_at_once), sample), "", outputs) == 0
    result = read_result(tmp_path / "run.json")
    seconds = list(csv.DictReader((tmp_path / "run.csv").read_text().splitlines()))
    assert result.ok > 10
    assert sum(int(second["ok"]) for second in seconds) == result.ok
    page = (tmp_path / "run.html").read_text()
    assert "http://127.0.0.1" in page
    assert page.count("<svg") >= 3
    assert "<link" not in page


def test_a_kept_promise_exits_with_nothing_and_a_missed_one_with_three(serving: Any, sample: Path) -> None:
    load, rows = planned(serving(answer_at_once), sample)
    assert load_test(load, rows, "p50=1s", Outputs()) == 0
    assert load_test(load, rows, "p50=1us", Outputs()) == 3


def test_an_slo_that_is_none_is_refused_before_any_load(serving: Any, sample: Path) -> None:
    with pytest.raises(InvalidConfig, match="expected an SLO such as"):
        load_test(*planned(serving(answer_at_once), sample), "fast", Outputs())


UNSENT = Load("http://127.0.0.1:9", "late", "grpc", "locust", 1.0, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target-rate", "100"], "give --find-max with it"),
        (["--find-max", "--csv", "run.csv"], "--csv is of one run"),
    ],
)
def test_options_that_would_do_nothing_are_refused_before_any_load(options: list[str], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        CliRunner().invoke(app, ["load", "http://127.0.0.1:9", *options], catch_exceptions=False)


def test_a_capacity_over_grpc_is_refused_before_any_load() -> None:
    with pytest.raises(InvalidConfig, match="expected a --wire over HTTP with --find-max"):
        search(UNSENT, "rows.parquet", "p99=20ms", 0.0, Outputs())


def test_a_taken_port_for_the_page_of_locust_is_said() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(PortTaken, match="choose another --web"),
    ):
        open_web_page(UNSENT, "rows.parquet", other.getsockname()[1])


def test_a_baseline_is_compared(
    serving: Any, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load, rows = planned(serving(answer_at_once), sample)
    load_test(load, rows, "", Outputs(json=tmp_path / "before.json"))
    load_test(load, rows, "", Outputs(baseline=tmp_path / "before.json"))
    out = capsys.readouterr().out
    assert "baseline: late at http://127.0.0.1" in out
    assert "× the baseline" in out


@pytest.mark.parametrize(
    ("wishes", "difference"),
    [
        ({"rate": 0.0}, "--rate was 100 and is not given;"),
        ({"rate": 200.0, "users": 3}, "--users was 16 and is 3, --rate was 100 and is 200;"),
        ({"wire": "oip"}, "--wire was rows and is oip;"),
        ({"rows_per_request": 8}, "--rows-per-request was 1 and is 8;"),
        ({"generator": "locust"}, "--generator was fast and is locust;"),
        ({"shape": "spike"}, "--shape was constant and is spike;"),
        ({"deadline": "50ms"}, "--deadline was not given and is 0.05;"),
    ],
)
def test_a_baseline_of_another_load_is_refused_before_any_load(
    serving: Any, sample: Path, tmp_path: Path, wishes: dict[str, Any], difference: str
) -> None:
    server = serving(lambda path, body: pytest.fail("nothing is sent"))
    load, rows = planned(server, sample)
    write_json(summarise(load, Recording()), tmp_path / "before.json")
    with pytest.raises(InvalidConfig, match=f"baseline of the same load, but {difference}"):
        load_test(planned(server, sample, **wishes)[0], rows, "", Outputs(baseline=tmp_path / "before.json"))


@pytest.mark.parametrize(
    ("slo", "wire", "difference"),
    [
        ("p99=10ms", "rows", "--slo was p99 ≤ 20 ms and is p99 ≤ 10 ms;"),
        ("p99=20ms", "binary", "--wire was rows and is binary;"),
    ],
)
def test_a_search_s_baseline_of_another_promise_or_load_is_refused_before_any_load(
    serving: Any, sample: Path, tmp_path: Path, slo: str, wire: str, difference: str
) -> None:
    server = serving(lambda path, body: pytest.fail("nothing is sent"))
    load, rows = planned(server, sample, rate=0.0)
    found = Capacity(Promise(99, 0.02), 1000.0, 5, 5, 0.02, (), (), load=load)
    write_json(found, tmp_path / "before.json")
    with pytest.raises(InvalidConfig, match=f"baseline of the same load, but {difference}"):
        search(
            planned(server, sample, rate=0.0, wire=wire)[0],
            rows,
            slo,
            0.0,
            Outputs(baseline=tmp_path / "before.json"),
        )


def test_a_baseline_of_another_engine_model_or_duration_is_compared(
    serving: Any, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load, rows = planned(serving(answer_at_once), sample)
    other = msgspec.structs.replace(load, url="http://127.0.0.1:9", model="early", duration_s=3.0)
    recording = Recording()
    recording.add(0.0, 0.001, 200)
    write_json(summarise(other, recording), tmp_path / "before.json")
    load_test(load, rows, "", Outputs(baseline=tmp_path / "before.json"))
    assert "× the baseline" in capsys.readouterr().out


def test_a_baseline_that_is_not_there_is_said_before_any_load(
    serving: Any, sample: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="expected the result of a run at"):
        load_test(*planned(serving(answer_at_once), sample), "", Outputs(baseline=tmp_path / "before.json"))


def test_a_baseline_of_another_kind_is_refused(serving: Any, sample: Path, tmp_path: Path) -> None:
    (tmp_path / "before.json").write_text("{}")
    with pytest.raises(InvalidConfig, match="expected the result of a run in"):
        read_json(tmp_path / "before.json", LoadResult)


def test_an_engine_that_only_refuses_is_an_error_not_a_green_report(serving: Any, sample: Path) -> None:
    with pytest.raises(Failed, match=r"got none to \d+ requests \(\d+ shed, 0 failed\)"):
        load_test(*planned(serving(lambda path, body: (429, b"busy")), sample), "", Outputs())


@pytest.fixture
def short_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search begins with a loop whose length makes its guess better, and nothing here guesses."""
    monkeypatch.setattr(finding, "GUESS_S", 0.2)


def test_a_search_on_an_engine_that_never_answers_is_an_error(
    serving: Any, sample: Path, short_guesses: None
) -> None:
    load, rows = planned(serving(lambda path, body: (500, b"a bug")), sample, rate=0.0)
    with pytest.raises(Failed, match="500 a bug"):
        search(load, rows, "p99=20ms", 0.0, Outputs())


@pytest.mark.slow
def test_a_search_without_any_rate_that_holds_exits_with_three(
    serving: Any, sample: Path, tmp_path: Path, short_guesses: None
) -> None:
    outputs = Outputs(json=tmp_path / "found.json", html=tmp_path / "found.html")
    load, rows = planned(serving(answer_at_once), sample, duration="0.1s", rate=0.0)
    assert search(load, rows, "p99=1us", 0.0, outputs) == 3
    found = read_json(tmp_path / "found.json", Capacity)
    assert (found.rate, found.load) == (0.0, load)
    assert "No rate keeps the promise." in (tmp_path / "found.html").read_text()
