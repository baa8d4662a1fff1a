"""A load test or a search for capacity as a self-contained page."""

import datetime
from pathlib import Path

from engine.pages.machine import machine
from engine.pages.rendering import to_the_minute, write_page
from load_tests.capacity.search import Capacity
from load_tests.results import figures
from load_tests.results.comparison import compare_loads
from load_tests.results.printing import (
    capacity_sentence,
    curve_rows,
    describe,
    milliseconds,
    prediction_sentence,
    replicas_sentence,
)
from load_tests.results.result import Latency, Load, LoadResult

PACKAGES = ("tandem-scoring", "locust", "ray", "numba", "numpy")


def write_load_report(result: LoadResult, path: Path, baseline: LoadResult | None = None) -> Path:
    """Write the page of a load test, beside an earlier one where there is one."""
    values: dict[str, object] = {
        "title": f"Load test of {result.load.model}",
        "kicker": f"Tandem · load test · {to_the_minute(datetime.datetime.now())}",
        "headline": _headline(result),
        "lead": describe(result.load),
        "facts": _facts(result),
        "notes": _notes(result),
        "figures_title": "The run",
        "figures": _figures(result),
        "tables": [*_tables(result), *([_comparison_table(baseline, result)] if baseline else [])],
        "machine": machine(PACKAGES),
        "closing": "." if result.load.rate else ", which in a closed loop is when it was sent.",
    }
    return write_page(path, "load_tests.results", "report.html", values)


def write_capacity_report(load: Load, capacity: Capacity, target_rate: float, path: Path) -> Path:
    """Write the page of a search for capacity."""
    found = bool(capacity.rate)
    found_words = f": {capacity_sentence(capacity)}" if found else f", {len(capacity.trials)} rates tried"
    notes = [(replicas_sentence(capacity, target_rate) + ".", "")] if target_rate and found else []
    if found and capacity.predicted_rate is not None:
        notes.append((prediction_sentence(capacity).capitalize() + ".", ""))
    notes += [(trial.limited.capitalize() + ".", "bad") for trial in capacity.curve if trial.limited][:1]
    values: dict[str, object] = {
        "title": f"Capacity of {load.model}",
        "kicker": f"Tandem · capacity · {to_the_minute(datetime.datetime.now())}",
        "headline": f"{capacity.rate:,.0f} requests a second" if found else "No rate keeps the promise.",
        "lead": f"{load.model} at {load.url}, {load.wire}{found_words}.",
        "facts": _capacity_facts(capacity),
        "notes": notes,
        "figures_title": "The search",
        "figures": _capacity_figures(capacity),
        "tables": [_curve_table(capacity)] if found else [],
        "machine": machine(PACKAGES),
        "closing": (
            "; arrivals are Poisson and do not wait for answers. Percentiles are those of the answers;"
            " requests refused or never answered are not in time."
        ),
    }
    return write_page(path, "load_tests.results", "report.html", values)


def _headline(result: LoadResult) -> str:
    if result.verdict:
        return f"The promise {result.verdict.promise} was {'kept' if result.verdict.kept else 'missed'}."
    return f"{result.qps:,.0f} requests a second"


def _facts(result: LoadResult) -> list[tuple[str, str, str]]:
    facts = [(f"{result.qps:,.0f}", "requests/s answered", "")]
    if result.verdict:
        mood = "good" if result.verdict.kept else "bad"
        promise = result.verdict.promise
        words = f"within {1000 * promise.limit_s:g} ms, {promise.percent:g} % promised"
        facts.insert(0, (f"{100 * result.verdict.within:.2f} %", words, mood))
    lost = result.shed + result.failed
    return [
        *facts,
        (milliseconds(result.latency.p50_s), "median latency", ""),
        (milliseconds(result.latency.p99_s), "99th percentile", ""),
        (f"{lost:,}", f"of {result.requests:,} requests shed or failed", "bad" if lost else ""),
    ]


def _notes(result: LoadResult) -> list[tuple[str, str]]:
    notes = [(result.generator_limit.capitalize() + ".", "bad")] if result.generator_limit else []
    if result.server and result.server.requests < 0.9 * result.ok:
        notes.append(
            (
                f"The engine's own numbers are those of one replica: {result.server.requests:,}"
                f" of {result.ok:,} requests.",
                "",
            )
        )
    return notes


def _figures(result: LoadResult) -> list[dict[str, object]]:
    shown = [
        _figure("Latency over time", "Percentiles in each second.", figures.latency_over_time(result)),
        _figure("Requests", "Answered, shed and failed in each second.", figures.outcomes_over_time(result)),
        _figure("Distribution", "Share of requests answered within a time.", figures.distribution(result)),
    ]
    if result.server and result.server.batch_rows:
        shown.append(_figure("Batches", "Rows that the engine scored together.", figures.batch_sizes(result)))
    if len(result.machine) > 1:
        shown.append(_figure("Processors", "Machine and engine.", figures.machine_over_time(result)))
        if result.machine[-1].engine_bytes:
            shown.append(_figure("Memory", "Of the engine's processes.", figures.memory_over_time(result)))
    return shown


def _figure(title: str, caption: str, svg: object) -> dict[str, object]:
    return {"title": title, "caption": caption, "svg": svg}


def _tables(result: LoadResult) -> list[dict[str, object]]:
    latencies = [("answered", result.latency)]
    latencies += [("shed: time to refuse", result.refusal)] if result.shed else []
    latencies += [("sent after it was due", result.delay)] if result.load.rate else []
    headings = ("", "p50", "p90", "p95", "p99", "p99.9", "mean", "max")
    tables = [_table("Latency", headings, [(name, *_latency_cells(latency)) for name, latency in latencies])]
    if result.server:
        stages = [(f"{stage}, mean", milliseconds(s)) for stage, s in result.server.stages_s.items()]
        rows = [
            ("requests timed", f"{result.server.requests:,}"),
            ("p50", milliseconds(result.server.p50_s)),
            ("p99", milliseconds(result.server.p99_s)),
            *stages,
            *((f"shed: {reason}", f"{count:,}") for reason, count in result.server.shed.items()),
        ]
        tables.append(_table("The engine's own numbers", ("", "value"), rows))
    if result.errors:
        rows = [(reason, f"{count:,}") for reason, count in list(result.errors.items())[:10]]
        tables.append(_table("Errors", ("reason", "requests"), rows))
    return tables


def _comparison_table(baseline: LoadResult, result: LoadResult) -> dict[str, object]:
    changes = compare_loads(baseline, result)
    rows = [(change.name, f"{change.ratio:.2f}", change.verdict) for change in changes]
    return _table(f"Beside the baseline: {describe(baseline.load)}", ("", "× the baseline", ""), rows)


def _latency_cells(latency: Latency) -> list[str]:
    values = (latency.p50_s, latency.p90_s, latency.p95_s, latency.p99_s, latency.p999_s)
    return [milliseconds(value) for value in (*values, latency.mean_s, latency.highest_s)]


def _table(title: str, headings: tuple[str, ...], rows: object) -> dict[str, object]:
    return {"title": title, "headings": headings, "rows": rows}


def _capacity_facts(capacity: Capacity) -> list[tuple[str, str, str]]:
    processes = "process answers" if capacity.replicas == 1 else "processes answer"
    answering = (f"{capacity.replicas}", f"{processes} on the port", "")
    if not capacity.rate:
        return [("0", f"requests/s keep {capacity.promise}", "bad"), answering]
    return [
        (f"{capacity.rate:,.0f}", f"requests/s keep {capacity.promise}", "good"),
        (f"{capacity.held} of {capacity.repeats}", "repeated runs kept it", ""),
        (f"{100 * capacity.spread:.1f} %", "spread of goodput", ""),
        answering,
    ]


def _capacity_figures(capacity: Capacity) -> list[dict[str, object]]:
    search = _figure(
        "Search",
        "Up after two runs that hold, down after one that does not; then repeats.",
        figures.search_path(capacity),
    )
    if not capacity.rate:
        return [search]
    curve = figures.capacity_curve(capacity)
    return [_figure("Latency against throughput", "Each point is a run.", curve), search]


def _curve_table(capacity: Capacity) -> dict[str, object]:
    headings = ("Poisson/s", "in time/s", "not in time", "p50", "p99", "SLO")
    return _table("Curve", headings, curve_rows(capacity))
