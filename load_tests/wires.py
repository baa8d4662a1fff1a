"""``python -m load_tests.wires``: the same rows over each wire, one and a hundred in a request.

    python -m load_tests.wires --rows 1 100 --rounds 5 --seconds 2

Closed loops over HTTP against ``tandem serve --local``, wires in turn within each round, medians. The
generator shares the machine, so the engine's own processor time per request stands beside the rate.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from engine.pages.machine import machine
from load_tests.fast.run import FastLoad, run_fast
from load_tests.local_engine import LocalEngine, local_engine
from load_tests.payloads.wire import Wire, encode, raw
from load_tests.peers.model import NAME, SharedModel, shared_model

MODEL = Path(".cache/peers/model")
WIRES: tuple[Wire, ...] = ("oip", "rows", "binary", "arrow")
MAX_REQUESTS = 500
WARM_S = 0.5


class Measured(msgspec.Struct, frozen=True):
    """One wire at one size.

    Attributes:
        wire: As ``tandem load`` calls it.
        n_rows: In each request.
        requests_per_s: Answered.
        cpu_s: Processor time of the engine per request.
    """

    wire: Wire
    n_rows: int
    requests_per_s: float
    cpu_s: float


def main() -> int:
    """Measure and print; exit code 1 if a request was not answered."""
    options = _options()
    model = shared_model(MODEL)
    rounds: dict[tuple[Wire, int], list[Measured]] = {}
    with local_engine({NAME: model.bundle}, slo={"p99_ms": 1000.0}) as engine:
        payloads = _payloads(engine, model, options.rows)
        for case, requests in payloads.items():
            _run(engine, requests, WARM_S, options.connections)
            rounds[case] = []
        for turn in range(options.rounds):
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr, flush=True)
            for (wire, n_rows), requests in payloads.items():
                rate, cpu_s = _run(engine, requests, options.seconds, options.connections)
                rounds[wire, n_rows].append(Measured(wire, n_rows, rate, cpu_s))
    medians = {case: _median(measured) for case, measured in rounds.items()}
    _print(medians)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(list(medians.values())), indent=1))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 100], help="rows in a request")
    parser.add_argument("--rounds", type=int, default=5, help="times each wire is measured")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--connections", type=int, default=16, help="requests under way")
    parser.add_argument("--json", type=Path, help="file for the medians")
    return parser.parse_args()


def _payloads(
    engine: LocalEngine, model: SharedModel, sizes: list[int]
) -> dict[tuple[Wire, int], list[bytes]]:
    names = engine.target.features(NAME)
    columns = [pa.array(column.copy()) for column in model.rows.T]
    table = pa.Table.from_arrays(columns, names=list(names))
    return {
        (wire, n_rows): [
            raw(request, *engine.address) for request in encode(wire, NAME, table, n_rows)[:MAX_REQUESTS]
        ]
        for n_rows in sizes
        for wire in WIRES
    }


def _run(engine: LocalEngine, payloads: list[bytes], seconds: float, connections: int) -> tuple[float, float]:
    """Requests answered a second, and the engine's processor time for each."""
    used_s = engine.cpu_s()
    outcome = run_fast(FastLoad(engine.address, payloads, seconds, connections=connections))
    used_s = engine.cpu_s() - used_s
    n_answered = outcome.recording.latencies().n
    if outcome.recording.errors or not n_answered:
        raise SystemExit(f"expected answers, got {outcome.recording.errors or 'none'}")
    return n_answered / seconds, used_s / n_answered


def _median(measured: list[Measured]) -> Measured:
    rate = statistics.median(one.requests_per_s for one in measured)
    return Measured(measured[0].wire, measured[0].n_rows, rate, statistics.median(m.cpu_s for m in measured))


def _print(medians: Mapping[tuple[Wire, int], Measured]) -> None:
    console = Console(width=140, highlight=False)
    table = Table(title="The same rows over each wire, 23 features, LightGBM 100 × 31", title_justify="left")
    headings = ("wire", "rows", "requests/s", "rows/s", "engine µs/request", "× JSON tensors", "× JSON rows")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in medians.values():
        ratios = [_ratios(one, medians[json, one.n_rows]) for json in ("oip", "rows")]
        rates = (f"{one.requests_per_s:,.0f}", f"{one.requests_per_s * one.n_rows:,.0f}")
        table.add_row(one.wire, str(one.n_rows), *rates, f"{1e6 * one.cpu_s:.0f}", *ratios)
    console.print(table)
    console.print("× is rows/s over that of JSON, and in brackets the same of the engine's processor time")
    about = machine(("tandem-scoring", "pyarrow"))
    console.print(" · ".join(f"{key} {value}" for key, value in about.items()), soft_wrap=True)


def _ratios(one: Measured, json: Measured) -> str:
    return f"{one.requests_per_s / json.requests_per_s:.1f} ({json.cpu_s / one.cpu_s:.1f})"


if __name__ == "__main__":
    sys.exit(main())
