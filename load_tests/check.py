"""``make bench-check``: the quick benchmarks against the ratios in ``baseline.json``.

    python -m load_tests.check [--only kernels batch peers] [--update]

What fell by more than its noise is measured again, and named where it stays down: exit code 1.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from engine.errors import Failed, TandemError
from engine.pages.machine import machine
from load_tests.ratios import (
    READERS,
    Baseline,
    Finding,
    Pairs,
    Ratio,
    add,
    compare,
    ratio_of,
    read_baseline,
)

BASELINE = Path(__file__).parent / "baseline.json"
PACKAGES = ("tandem-scoring", "ray", "pyarrow", "numba", "lightgbm", "onnxruntime-gpu", "onnxruntime")
LIMIT_S = 1200.0
PEERS = ("tandem", "tandem-local", "ray-serve")
"""Servers that run in our own environment."""
QUICK: dict[str, list[str]] = {
    "kernels": ["--quick"],
    "batch": ["--quick"],
    "peers": ["--only", *PEERS, "--rounds", "1", "--seconds", "2"],
}
MAY_BE_MISSING = {"kernels"}
"""Benchmarks some of whose contenders need an environment of their own, which may not be there."""
UPDATE_TIMES = 3
"""Runs that a new baseline is made of, so that its noise is known."""
COLOURS = {"fell": "red", "rose": "green", "missing": "yellow", "new": "yellow", "same": "dim"}


def main(arguments: list[str] | None = None) -> int:
    """Measure, then compare or write; 1 when a ratio fell or is gone, 2 when nothing could be measured."""
    options = _options(arguments)
    try:
        return _update(options) if options.update else _check(options)
    except TandemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _update(options: argparse.Namespace) -> int:
    """Write a new baseline; ratios of benchmarks that were not run stay."""
    pairs = _measured(options.only, UPDATE_TIMES)
    kept: Mapping[str, Ratio] = read_baseline(options.baseline).ratios if options.baseline.exists() else {}
    kept = {name: ratio for name, ratio in kept.items() if benchmark_of(name) not in options.only}
    fresh = {name: ratio_of(found) for name, found in pairs.items()}
    baseline = Baseline(machine(PACKAGES), dict(sorted({**kept, **fresh}.items())))
    options.baseline.write_bytes(msgspec.json.format(msgspec.json.encode(baseline), indent=1) + b"\n")
    print_findings(compare(fresh, pairs))
    return 0


def _check(options: argparse.Namespace) -> int:
    baseline = read_baseline(options.baseline)
    expected = {name: ratio for name, ratio in baseline.ratios.items() if benchmark_of(name) in options.only}
    pairs = _measured(options.only, 1)
    fell = {benchmark_of(finding.name) for finding in compare(expected, pairs) if finding.verdict == "fell"}
    if fell:
        print(f"measuring again: {', '.join(sorted(fell))}", file=sys.stderr, flush=True)
        pairs = add(pairs, _measured(sorted(fell), UPDATE_TIMES - 1))
    findings = compare(expected, pairs)
    print_findings(findings)
    _name_the_machines(baseline.machine, machine(PACKAGES))
    faults = faults_of(findings)
    print("\n".join(faults) or "nothing fell by more than its noise")
    return 1 if faults else 0


def faults_of(findings: Iterable[Finding]) -> list[str]:
    """What fell, and what should have been measured and was not, each in a line."""
    faults = []
    for finding in findings:
        if finding.verdict == "fell":
            faults.append(f"fell by more than its noise: {finding.name}")
        elif finding.verdict == "missing" and benchmark_of(finding.name) not in MAY_BE_MISSING:
            faults.append(f"could not be measured: {finding.name}")
    return faults


def benchmark_of(name: str) -> str:
    """The module that measures a ratio, from the ratio's name."""
    return {"endpoint": "peers"}.get(name.split(":")[0], name.split(":")[0])


def _measured(benchmarks: Iterable[str], times: int) -> Pairs:
    """Run benchmarks in turn, some times; raises ``Failed`` where one gives no ratio."""
    pairs: Pairs = {}
    for turn in range(times):
        for benchmark in benchmarks:
            print(f"run {turn + 1} of {times}: {benchmark}", file=sys.stderr, flush=True)
            found = _run(benchmark)
            if not found:
                raise Failed(f"expected ratios from load_tests.{benchmark}, got none")
            pairs = add(pairs, found)
    return pairs


def _run(benchmark: str) -> Pairs:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", f"load_tests.{benchmark}", *QUICK[benchmark], "--json", str(path)]
        try:
            done = subprocess.run(command, stdout=sys.stderr, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"expected load_tests.{benchmark} to end within {LIMIT_S:.0f} s") from error
        if done.returncode or not path.exists():
            raise Failed(f"expected success of load_tests.{benchmark}, got exit code {done.returncode}")
        return READERS[benchmark](path.read_bytes())


def print_findings(findings: Iterable[Finding]) -> None:
    """Print each ratio beside its baseline."""
    table = Table(pad_edge=False, box=None)
    table.add_column("ratio, more is better", no_wrap=True)
    for heading in ("baseline", "noise", "now", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for finding in findings:
        before, now = finding.before, finding.now
        table.add_row(
            finding.name,
            f"{before.ratio:.2f} ×" if before else "–",
            f"± {100 * before.noise:.0f} %" if before else "–",
            f"{now:.2f} ×" if now is not None else "–",
            finding.verdict,
            style=COLOURS[finding.verdict],
        )
    Console(highlight=False, width=150).print(table)


def _name_the_machines(then: Mapping[str, str], now: Mapping[str, str]) -> None:
    if then.get("Processor") != now.get("Processor"):
        print(
            "the baseline is another machine's: ratios move with the processor as much as with the code; "
            "judge by a baseline of this machine (--update at the commit to compare with)"
        )
    for what in sorted(set(then) | set(now)):
        if then.get(what) != now.get(what):
            print(f"{what}: {then.get(what, 'none')} in the baseline, {now.get(what, 'none')} here")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m load_tests.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=list(QUICK), default=list(QUICK))
    parser.add_argument(
        "--update", action="store_true", help=f"write the baseline anew, from {UPDATE_TIMES} runs"
    )
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
