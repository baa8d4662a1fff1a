"""What a person reads on a terminal or in a log."""

import msgspec
import pytest

from load_tests.results.printing import print_result
from load_tests.results.recording import Recording
from load_tests.results.result import Load, summarise

LOAD = Load("http://127.0.0.1:8080", "late", "rows", "fast", 3.0, 1, 16)


@pytest.mark.parametrize("columns", ["40", "80", "120"])
def test_no_number_is_cut_short_however_narrow_the_terminal(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    recording = Recording()
    recording.add(0.0, 0.1234, 200)
    result = msgspec.structs.replace(summarise(LOAD, recording), rows_per_s=2_872_200.0, ok=1_723_320)
    result = msgspec.structs.replace(result, qps=28_722.0, shed=123_456, failed=12_345)
    print_result(result)
    out = capsys.readouterr().out
    assert "…" not in out
    for number in ("28,722", "2,872,200", "123.4 ms", "1,723,320", "123,456", "12,345"):
        assert number in out
