"""A real engine, soaked for a moment."""

from pathlib import Path

import msgspec
import pytest

from load_tests.soak.__main__ import main
from load_tests.soak.result import Report


@pytest.mark.slow
def test_an_engine_holds_under_mixed_load_with_a_batch_job_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--local", "--seconds", "6", "--rate", "60", "--users", "6", "--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert code == 0, out
    report = msgspec.json.decode((tmp_path / "soak.json").read_bytes(), type=Report)
    assert all(check.holds for check in report.checks)
    assert report.soak.account.answered > 300
    assert set(report.soak.by_kind) == {
        f"{w} × {n}" for w in ("rows", "oip", "binary", "arrow", "grpc") for n in (1, 32)
    }
    assert min(report.soak.by_kind.values()) > 0
    assert [job.rows for job in report.soak.jobs] == [200_000]
    assert "<svg" in (tmp_path / "soak.html").read_text()
    assert "ready after" in (tmp_path / "engine.log").read_text()
