"""A page about a finished job, one HTML file that needs nothing else, and its figures as JSON beside it."""

import datetime
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from numpy.typing import NDArray

from engine.batch.filesystem import open_filesystem
from engine.batch.job import Result
from engine.batch.layout import suffix_of
from engine.batch.manifest import Done, JobRecord
from engine.pages.figures import ACCENT, SECOND, draw
from engine.pages.machine import machine
from engine.pages.rendering import to_the_minute, write_page

BINS = 40
SLOWEST = 10
SAMPLED_FILES = 20
"""Score histograms are drawn from so many output files."""


class Report(msgspec.Struct, frozen=True):
    """What the page shows.

    Attributes:
        record: The job as the manifest has it.
        output: Where the scores are.
        seconds: From the first unit's start to the last one's end; with a resumed job, of all drivers.
        done: Every unit's record.
        histogram: Rows per bin, by score column.
        edges: Bin edges, by score column.
        machine: Where the driver ran.
    """

    record: JobRecord
    output: str
    seconds: float
    done: tuple[Done, ...]
    histogram: dict[str, list[int]]
    edges: dict[str, list[float]]
    machine: dict[str, str]


def write_report(result: Result, page: Path) -> Path:
    """Write ``page`` and, with the same name, its figures as JSON; returns the page's path."""
    report = make_report(result)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    return write_page(page, "engine.batch", "report.html", _values(report))


def make_report(result: Result) -> Report:
    """The figures of a job that this process has just published."""
    begun = min((unit.finished - unit.seconds for unit in result.done), default=0.0)
    ended = max((unit.finished for unit in result.done), default=0.0)
    histogram, edges = {}, {}
    for name, scores in _scores(result).items():
        if len(scores):
            counts, bounds = np.histogram(scores, BINS)
            histogram[name], edges[name] = counts.tolist(), bounds.tolist()
    return Report(result.record, result.output, ended - begun, result.done, histogram, edges, machine())


def _scores(result: Result) -> dict[str, NDArray[np.float64]]:
    columns = list(result.record.score_columns)
    filesystem, root = open_filesystem(result.output)
    parts = [part for part in result.manifest.parts if not part.is_set_aside]
    paths = [part.path for part in parts if f"-{suffix_of(result.job)}" in part.path]
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in columns}
    for path in paths[:: max(1, len(paths) // SAMPLED_FILES)]:
        with filesystem.open_input_file(f"{root}/{path}") as source:
            table = pq.ParquetFile(source).read(columns=columns)
        for name in columns:
            scores = table.column(name).drop_null().to_numpy().astype(np.float64)
            found[name].append(scores[np.isfinite(scores)])
    return {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in found.items()}


def _values(report: Report) -> dict[str, object]:
    record = report.record
    rate = record.rows_in / report.seconds if report.seconds else 0.0
    return {
        "title": f"Job {record.job}",
        "date": to_the_minute(datetime.datetime.fromisoformat(record.finished)),
        "headline": f"{record.rows_out:,} rows scored with {record.model}",
        "lead": f"From {', '.join(record.inputs)} into {report.output}.",
        "facts": [
            (f"{rate / 1e6:.2f} M" if rate >= 1e6 else f"{rate:,.0f}", "rows/s"),
            (f"{report.seconds:,.1f} s", "from first to last unit"),
            (f"{record.rows_bad:,}", "bad rows"),
            (f"{len(record.files):,}", "input file" if len(record.files) == 1 else "input files"),
        ],
        "figures": _figures(report),
        "tables": [
            ("Bad rows", ("reason", "rows"), sorted(record.reasons.items(), key=lambda item: -item[1])),
            ("Slowest units", ("unit", "rows", "seconds", "bad rows", "runner"), _slowest(report)),
        ],
        "facts_in_full": [("The job", _facts(report)), ("Where this ran", list(report.machine.items()))],
    }


def _slowest(report: Report) -> list[tuple[object, ...]]:
    units = sorted(report.done, key=lambda unit: -unit.seconds)[:SLOWEST]
    return [(u.unit, f"{u.rows_in:,}", f"{u.seconds:.2f}", f"{u.rows_bad:,}", u.runner) for u in units]


def _facts(report: Report) -> list[tuple[str, object]]:
    record = report.record
    options = {name: value for name, value in msgspec.structs.asdict(record.options).items() if value}
    return [
        ("id", record.job),
        ("revision", record.revision),
        ("rows read", f"{record.rows_in:,}"),
        ("units", f"{record.n_units:,}"),
        *((name, _told(value)) for name, value in options.items()),
        ("engine", record.engine),
    ]


def _told(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _figures(report: Report) -> list[tuple[str, object]]:
    figures: list[tuple[str, object]] = []
    if report.done:
        figures.append(
            ("Rows finished over time", draw("rows", "Rows over time", lambda axes: _over_time(axes, report)))
        )
    for index, (name, counts) in enumerate(report.histogram.items()):
        plot = partial(_bars, name=name, counts=counts, edges=report.edges[name])
        figures.append((f"Histogram of {name}", draw(f"score{index}", f"Histogram of {name}", plot)))
    return figures


def _over_time(axes: Axes, report: Report) -> None:
    units = sorted(report.done, key=lambda unit: unit.finished)
    begun = min(unit.finished - unit.seconds for unit in units)
    times = [0.0, *(unit.finished - begun for unit in units)]
    axes.plot(times, np.cumsum([0, *(unit.rows_in for unit in units)]), color=ACCENT)
    axes.set_xlabel("seconds")
    axes.set(xlim=0, ylim=0)
    _count_rows(axes)


def _bars(axes: Axes, name: str, counts: Sequence[int], edges: Sequence[float]) -> None:
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=SECOND)
    axes.set_xlabel(name)
    _count_rows(axes)


def _count_rows(axes: Axes) -> None:
    axes.set_ylabel("rows")
    axes.yaxis.set_major_formatter("{x:,.0f}")
