"""A load test's result as tables on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from load_tests.capacity.search import HEADROOM, Capacity, Trial, keeps, replicas_for
from load_tests.results.comparison import Change
from load_tests.results.result import Load, LoadResult
from load_tests.results.slo import Promise

WIDTH = 140
"""Room for every table: a line that a narrow terminal wraps can be read, a number cut short cannot."""
COLOURS = {"better": "green", "worse": "red", "same": "dim"}


def print_result(result: LoadResult) -> None:
    """Print a result: throughput, latency, outcomes, and whether the generator was the limit."""
    console, latency = Console(width=WIDTH, highlight=False), result.latency
    headings = ("QPS", "rows/s", "p50", "p95", "p99", "p99.9", "max", "ok", "shed", "failed")
    times = (latency.p50_s, latency.p95_s, latency.p99_s, latency.p999_s, latency.highest_s)
    counts = (result.ok, result.shed, result.failed)
    rates = (f"{result.qps:,.0f}", f"{result.rows_per_s:,.0f}")
    row = (*rates, *map(milliseconds, times), *(f"{count:,}" for count in counts))
    console.print(describe(result.load), style="bold", markup=False, soft_wrap=True)
    console.print(_table(headings, [row]))
    for reason, count in list(result.errors.items())[:5]:
        console.print(f"{count:,} × {reason}", style="red", markup=False, soft_wrap=True)
    if result.generator_limit:
        console.print(result.generator_limit, style="yellow", markup=False, soft_wrap=True)
    if result.verdict:
        verdict = result.verdict
        words = (
            f"{verdict.promise}: {'kept' if verdict.kept else 'missed'}, {100 * verdict.within:.2f} % in time"
        )
        console.print(words, style="green" if verdict.kept else "red", markup=False)


def print_capacity(load: Load, capacity: Capacity, target_rate: float) -> None:
    """Print what a search found: the rate, how sure it is, the curve, and replicas for a target."""
    console = Console(width=WIDTH, highlight=False)
    console.print(f"{load.model} at {load.url} · {load.wire}", style="bold", markup=False, soft_wrap=True)
    if not capacity.rate:
        console.print(f"no rate keeps {capacity.promise}", style="red")
        return
    console.print(capacity_sentence(capacity), soft_wrap=True)
    headings = ("Poisson/s", "in time/s", "not in time", "p50", "p99", "SLO")
    console.print(_table(headings, curve_rows(capacity)))
    if capacity.predicted_rate is not None:
        console.print(prediction_sentence(capacity), style="dim", soft_wrap=True)
    if target_rate:
        console.print(replicas_sentence(capacity, target_rate), soft_wrap=True)
    limited = next((trial.limited for trial in capacity.curve if trial.limited), None)
    if limited:
        console.print(limited, style="yellow", markup=False, soft_wrap=True)


def curve_rows(capacity: Capacity) -> list[tuple[str, ...]]:
    """Each run of the curve: its rate, goodput, share not in time, latencies of answers, and verdict."""
    return [
        (
            f"{trial.rate:,.0f}",
            f"{trial.goodput:,.0f}",
            f"{100 * trial.n_late / max(1, trial.n_sent):.2f} %",
            milliseconds(trial.p50_s),
            milliseconds(trial.p99_s),
            "kept" if keeps(capacity.promise, trial) else "missed",
        )
        for trial in capacity.curve
    ]


def print_trial(promise: Promise, trial: Trial) -> None:
    """Tell on stderr how one run of a search went."""
    late = f"{100 * trial.n_late / max(1, trial.n_sent):.2f} % not in time"
    kept = "kept" if keeps(promise, trial) else "missed"
    words = f"{trial.rate:10,.0f}/s  p99 {milliseconds(trial.p99_s):>9}  {late:>20}  {kept}"
    Console(stderr=True, highlight=False).print(words, style="dim", soft_wrap=True)


def print_comparison(changes: Sequence[Change], baseline: str) -> None:
    """Print a run beside its baseline, and what that was."""
    console = Console(highlight=False)
    console.print(f"baseline: {baseline}", style="dim", markup=False, soft_wrap=True)
    for change in changes:
        console.print(
            f"{change.name}: {change.ratio:.2f} × the baseline, {change.verdict}",
            style=COLOURS[change.verdict],
        )


def describe(load: Load) -> str:
    """A load in a line."""
    arrivals = f"{load.rate:,g}/s Poisson" if load.rate else f"{load.users} users"
    shape = "" if load.shape == "constant" else f" · {load.shape}"
    return (
        f"{load.model} at {load.url} · {arrivals}{shape} · {load.duration_s:g} s"
        f" · {load.wire} × {load.rows_per_request} · {load.generator}"
    )


def capacity_sentence(capacity: Capacity) -> str:
    """What a search found, in a sentence."""
    return (
        f"{capacity.rate:,.0f} requests/s keep {capacity.promise}, in {capacity.held} of {capacity.repeats}"
        f" repeated runs; goodput varies by {100 * capacity.spread:.1f} %"
    )


def prediction_sentence(capacity: Capacity) -> str:
    """What the simulation expected, in a sentence."""
    expected = capacity.predicted_rate or 0.0
    off = f", {100 * (expected / capacity.rate - 1):+.0f} %" if capacity.rate else ""
    return f"a simulation from the engine's measured costs expected {expected:,.0f} requests/s{off}"


def replicas_sentence(capacity: Capacity, target_rate: float) -> str:
    """How many replicas a rate needs, in a sentence."""
    return (
        f"{target_rate:,.0f} requests/s need {replicas_for(target_rate, capacity)} replicas,"
        f" loaded to {100 * HEADROOM:.0f} % of what {capacity.replicas} bore here"
    )


def milliseconds(value_s: float | None) -> str:
    """A latency for people."""
    if value_s is None:
        return "–"
    ms = 1000 * value_s
    return f"{ms:.2f} ms" if ms < 10 else f"{ms:.1f} ms" if ms < 1000 else f"{value_s:.2f} s"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(pad_edge=False, box=None)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
