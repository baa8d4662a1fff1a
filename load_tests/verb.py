"""What ``tandem load`` does once the load is planned: run, compare, write, print, and the exit code."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InvalidConfig
from engine.realtime.serving.listener import ensure_free
from load_tests.capacity.finding import find_capacity
from load_tests.capacity.search import Capacity
from load_tests.command import check_answered
from load_tests.locust_run import WEB_HOST, run_locust
from load_tests.progress import show_live
from load_tests.results.comparison import check_load, check_search, compare_capacities, compare_loads
from load_tests.results.printing import (
    describe,
    print_capacity,
    print_comparison,
    print_result,
    print_trial,
)
from load_tests.results.report import write_capacity_report, write_load_report
from load_tests.results.result import Load, LoadResult, read_json, write_csv, write_json
from load_tests.results.slo import parse_promise
from load_tests.running import run_load

SLO_MISSED = 3


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where to write, and what to compare with; ``None`` for nowhere and nothing."""

    json: Path | None = None
    csv: Path | None = None
    html: Path | None = None
    baseline: Path | None = None


def load_test(load: Load, sample: str, slo: str, outputs: Outputs) -> int:
    """Run a load; the exit code is 3 where a stated SLO was missed."""
    promise = parse_promise(slo) if slo else None
    earlier = read_json(outputs.baseline, LoadResult) if outputs.baseline else None
    if earlier:
        check_load(earlier.load, load)
    result = run_load(load, sample, promise)
    print_result(result)
    _write(result, outputs)
    check_answered(result)
    if outputs.html:
        write_load_report(result, outputs.html, earlier)
    if earlier:
        print_comparison(compare_loads(earlier, result), describe(earlier.load))
    return SLO_MISSED if result.verdict and not result.verdict.kept else 0


def search(load: Load, sample: str, slo: str, target_rate: float, outputs: Outputs) -> int:
    """Search for the capacity; the exit code is 3 where no rate keeps the SLO."""
    if load.wire == "grpc":
        raise InvalidConfig("expected a --wire over HTTP with --find-max, whose generator speaks no gRPC")
    promise = parse_promise(slo)
    earlier = read_json(outputs.baseline, Capacity) if outputs.baseline else None
    if earlier:
        check_search(earlier, load, promise)
    capacity = find_capacity(load, sample, promise, lambda trial: print_trial(promise, trial))
    print_capacity(load, capacity, target_rate)
    _write(capacity, outputs)
    if outputs.html:
        write_capacity_report(load, capacity, target_rate, outputs.html)
    if earlier:
        print_comparison(compare_capacities(earlier, capacity), f"capacity under {earlier.promise}")
    return 0 if capacity.rate else SLO_MISSED


def open_web_page(load: Load, sample: str, port: int) -> None:
    """Run Locust with its own web page until Ctrl-C ends both; raises ``PortTaken``."""
    ensure_free(WEB_HOST, port, "--web")
    print(f"Locust's own page: http://{WEB_HOST}:{port}; Ctrl-C ends it", file=sys.stderr)
    with suppress(KeyboardInterrupt):
        run_locust(load, sample, web_port=port)
    show_live("")


def _write(result: LoadResult | Capacity, outputs: Outputs) -> None:
    if outputs.json:
        write_json(result, outputs.json)
    if outputs.csv and isinstance(result, LoadResult):
        write_csv(result, outputs.csv)
