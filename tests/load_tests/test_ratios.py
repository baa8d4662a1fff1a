import json
from pathlib import Path

import pytest

from engine.errors import InvalidConfig, NotFound
from load_tests.check import BASELINE, QUICK, benchmark_of, faults_of, main
from load_tests.ratios import (
    LEAST_NOISE,
    MOST_NOISE,
    READERS,
    Ratio,
    add,
    batch_ratios,
    compare,
    kernel_ratios,
    peer_ratios,
    ratio_of,
    read_baseline,
)


@pytest.mark.parametrize(
    ("now", "verdict"), [(7.9, "fell"), (8.1, "same"), (10.0, "same"), (11.9, "same"), (12.1, "rose")]
)
def test_a_change_counts_beyond_the_ratios_own_noise(now: float, verdict: str) -> None:
    (finding,) = compare({"a": Ratio(10.0, 0.2, 3)}, {"a": [now]})
    assert finding.verdict == verdict


def test_the_median_of_all_pairs_is_compared() -> None:
    (finding,) = compare({"a": Ratio(10.0, 0.1, 3)}, add({"a": [2.0]}, {"a": [9.8, 10.1]}))
    assert (finding.now, finding.verdict) == (9.8, "same")


def test_a_ratio_on_one_side_only_is_named() -> None:
    findings = compare({"gone": Ratio(1.0, 0.1, 3)}, {"fresh": [1.0]})
    assert [(finding.name, finding.verdict) for finding in findings] == [
        ("gone", "missing"),
        ("fresh", "new"),
    ]


@pytest.mark.parametrize(
    ("pairs", "noise"),
    [([5.0], LEAST_NOISE), ([5.0, 5.1], LEAST_NOISE), ([4.0, 5.0, 6.0], 0.3), ([1, 9], MOST_NOISE)],
)
def test_noise_is_the_spread_of_the_middle_pairs_within_bounds(pairs: list[float], noise: float) -> None:
    assert ratio_of(pairs).noise == noise


def test_kernels_are_paired_round_by_round_with_ours() -> None:
    def line(library: str, n_rows: int, *rounds: float) -> bytes:
        return json.dumps({"model": "m", "library": library, "n_rows": n_rows, "rounds": rounds}).encode()

    lines = [
        b'{"machine": "a"}',
        line("tandem", 1, 10, 20),
        line("tandem-columns", 1, 11, 21),
        line("lleaves", 1, 30, 40),
    ]
    lines += [line("lleaves", 64, 1, 1)]  # ours failed here: no ratio
    assert kernel_ratios(b"\n".join(lines)) == {"kernels: lleaves / tandem, m, 1 rows": [3.0, 2.0]}


def test_batch_ways_of_ours_are_paired_with_all_others() -> None:
    ways = {
        "ours-ray": {"rows_per_s": 60.0},
        "ours-local": {"rows_per_s": 80.0},
        "stock": {"rows_per_s": 20.0},
    }
    assert batch_ratios(json.dumps({"rows": 1, "ways": ways}).encode()) == {
        "batch: ours-ray / stock, rows/s": [3.0],
        "batch: ours-local / stock, rows/s": [4.0],
    }


def test_of_servers_throughput_and_latency_are_paired_and_more_is_better() -> None:
    def one(qps: float, p50_s: float) -> list[dict[str, float]]:
        return [{"connections": 64, "qps": qps, "p50_s": p50_s, "p99_s": 1.0, "failed": 0.0}]

    assert peer_ratios(json.dumps({"tandem": one(900, 0.001), "ray-serve": one(300, 0.004)}).encode()) == {
        "endpoint: tandem / ray-serve, requests/s of 64 clients": [3.0],
        "endpoint: ray-serve / tandem, p50 of 64 clients": [4.0],
    }


def test_a_baseline_that_cannot_be_read_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="--update"):
        read_baseline(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"machine": {}, "ratios": {}, "seconds": 3}')
    with pytest.raises(InvalidConfig, match="seconds"):
        read_baseline(tmp_path / "bad.json")


def test_what_fell_or_is_gone_is_a_fault_but_not_a_library_that_is_not_set_up() -> None:
    before = Ratio(10.0, 0.1, 3)
    names = (
        "kernels: lleaves / tandem",
        "batch: a / b, rows/s",
        "endpoint: c / d, p50",
        "endpoint: e / f, p50",
    )
    findings = compare(dict.fromkeys(names, before), {names[2]: [5.0], names[3]: [10.0]})
    assert faults_of(findings) == [
        f"could not be measured: {names[1]}",
        f"fell by more than its noise: {names[2]}",
    ]


def test_without_a_baseline_nothing_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--baseline", str(tmp_path / "none.json")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: expected a baseline at")
    assert said.err.count("\n") == 1


def test_the_baseline_holds_ratios_of_the_benchmarks_that_are_run() -> None:
    ratios = read_baseline(BASELINE).ratios
    assert {benchmark_of(name) for name in ratios} <= set(QUICK) == set(READERS)
    assert all(ratio.ratio > 0 and LEAST_NOISE <= ratio.noise <= MOST_NOISE for ratio in ratios.values())
