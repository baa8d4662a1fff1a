"""``tandem load`` says in one sentence what is wrong, and tells numbers only where there are some."""

from pathlib import Path
from typing import Any

import pytest

from engine.errors import Failed, InvalidConfig, InvalidTable, NotFound
from load_tests.command import Wishes, check_answered, parse_duration, plan_load
from load_tests.running import run_load


def answer_at_once(path: str, body: bytes) -> tuple[int, bytes]:
    return 200, b'{"scores": [0.5]}'


def test_the_only_model_is_found_and_defaults_come_from_the_config(serving: Any, sample: Path) -> None:
    load, drawn_from = plan_load(serving(answer_at_once).url, Wishes(sample=str(sample)))
    assert (load.model, load.users, load.duration_s, drawn_from) == ("late", 16, 10.0, str(sample))


def test_a_config_file_names_engine_and_sample(serving: Any, sample: Path, tmp_path: Path) -> None:
    server = serving(answer_at_once)
    config = tmp_path / "engine.yaml"
    serve = f"{{port: {server.server_port}, grpc_port: 9001}}"
    config.write_text(f"serve: {serve}\nload: {{users: 3, sample: {sample}}}\n")
    load, drawn_from = plan_load(str(config), Wishes(duration="2s"))
    assert load.grpc_port == 9001
    assert (load.url, load.users, load.duration_s, drawn_from) == (server.url, 3, 2.0, str(sample))


def test_an_unreachable_engine_is_said(serving: Any, sample: Path) -> None:
    server = serving(answer_at_once)
    server.shutdown()
    server.server_close()
    with pytest.raises(Failed, match="got no answer: Connection refused; is it running"):
        plan_load(server.url, Wishes(sample=str(sample)))


def test_a_grpc_port_where_nobody_listens_is_said_before_any_load(serving: Any, sample: Path) -> None:
    with pytest.raises(Failed, match=r"expected gRPC at .*Connection refused; give --grpc-port"):
        plan_load(serving(answer_at_once).url, Wishes(sample=str(sample), wire="grpc", grpc_port=1))


def test_a_wrong_model_is_answered_with_the_known_ones(serving: Any, sample: Path) -> None:
    with pytest.raises(NotFound, match="one of the models late, got 'early'"):
        plan_load(serving(answer_at_once).url, Wishes(sample=str(sample), model="early"))


def test_a_sample_without_a_needed_column_is_refused_before_any_load(serving: Any, tmp_path: Path) -> None:
    import polars as pl

    pl.DataFrame({"carrier": ["UA"]}).write_parquet(tmp_path / "short.parquet")
    with pytest.raises(InvalidTable, match="got none for distance"):
        plan_load(serving(answer_at_once).url, Wishes(sample=str(tmp_path / "short.parquet")))


@pytest.mark.parametrize("url", ["ftp://host", "http://host:99999", "http://host/path", "http://"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfig, match="expected a URL"):
        plan_load(url, Wishes(sample="rows.parquet"))


def test_a_sample_must_be_given(serving: Any) -> None:
    with pytest.raises(InvalidConfig, match="--sample"):
        plan_load(serving(answer_at_once).url, Wishes())


def test_a_run_without_a_single_answer_is_an_error(serving: Any, sample: Path) -> None:
    server = serving(lambda path, body: (500, b"a bug"))
    wishes = Wishes(sample=str(sample), generator="fast", duration="0.3s", rate=50)
    result = run_load(*plan_load(server.url, wishes))
    with pytest.raises(Failed, match=r"got none to \d+ requests.*500 a bug"):
        check_answered(result)


@pytest.mark.slow
def test_locust_measures_a_closed_loop_on_real_rows(serving: Any, sample: Path) -> None:
    bodies: set[bytes] = set()

    def note(path: str, body: bytes) -> tuple[int, bytes]:
        assert path == "/v1/models/late/score"
        bodies.add(body)
        return 200, b'{"scores": [0.5]}'

    server = serving(note)
    result = run_load(*plan_load(server.url, Wishes(sample=str(sample), users=2, duration="2s")))
    assert result.ok > 20
    assert result.failed == 0
    assert bodies == {
        b'{"rows":[{"carrier":"UA","distance":719.0}]}',
        b'{"rows":[{"carrier":null,"distance":null}]}',
        b'{"rows":[{"carrier":"B6","distance":1400.0}]}',
    }


@pytest.mark.slow
def test_in_locust_s_open_loop_requests_are_due_within_the_run_and_how_late_they_left_is_told(
    serving: Any, sample: Path
) -> None:
    wishes = Wishes(sample=str(sample), users=16, rate=50.0, duration="2s")
    result = run_load(*plan_load(serving(answer_at_once).url, wishes))
    after_its_end = sum(moment.ok for moment in result.moments if moment.second >= 2)
    assert after_its_end <= 1, "one at most was due so near the end that the clock had moved on"
    assert result.delay.p50_s is not None


@pytest.mark.parametrize(("text", "seconds"), [("10", 10.0), ("50ms", 0.05), ("2m", 120.0), ("1h", 3600.0)])
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "ten", "5 days"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="expected a duration"):
        parse_duration(text)
