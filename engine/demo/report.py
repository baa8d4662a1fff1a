"""The demonstration's result as one page: a table on the terminal, and HTML that needs nothing else."""

import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from engine.demo import figures
from engine.demo.outcome import Outcome
from engine.pages.machine import machine
from engine.pages.rendering import to_the_minute, write_page
from load_tests.results.printing import milliseconds

COMMANDS = (
    "# serve the model again, and ask it about one flight",
    "tandem serve --model late={bundle} --local",
    "curl -s localhost:8080/v1/models/late/score -d @{request}",
    "",
    "# what is in the bundle",
    "tandem inspect {bundle}",
    "",
    "# score other Parquet; keep what you need beside the score",
    "tandem score {bundle} --input {flights} --output more-scores --keep flight_id",
    "",
    "# how much does it bear, while it serves",
    "tandem load http://127.0.0.1:8080 --sample {flights} --users 64 --duration 30s",
)


def print_outcome(outcome: Outcome, page: Path) -> None:
    """Print the result on stdout."""
    console = Console(highlight=False)
    table = Table(
        title="Tandem, the demonstration", title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    table.add_column("", style="dim")
    table.add_column("", justify="right", style="bold")
    table.add_column("", style="dim")
    for row in _facts_in_full(outcome):
        table.add_row(*row)
    console.print(table)
    if outcome.load.generator_limit:
        console.print(outcome.load.generator_limit, style="yellow", markup=False)
    console.print(f"The page: {page}", soft_wrap=True)


def write_report(outcome: Outcome, path: Path, request: Path, flights: Path) -> Path:
    """Write the HTML page; returns its path.

    Args:
        outcome: What to show.
        path: The file to write.
        request: A request body that the page's commands refer to.
        flights: The held-out flights, likewise.
    """
    places = {"bundle": str(outcome.bundle), "request": str(request), "flights": str(flights)}
    values: dict[str, object] = {
        "title": "Tandem: late flights, scored twice",
        "date": to_the_minute(datetime.datetime.now()),
        "n_differing": outcome.n_differing,
        "n_compared": sum(lane.n_rows for lane in outcome.lanes),
        "n_trained": outcome.n_trained,
        "n_rows": len(outcome.batch.scores),
        "facts": _facts(outcome),
        "load_caption": _load_caption(outcome),
        "generator_limit": outcome.load.generator_limit,
        "steps": _steps(outcome),
        "commands": [line.format(**places) for line in COMMANDS],
        "machine": machine(),
        "total_s": outcome.total_s,
        **_figures(outcome),
    }
    return write_page(path, "engine.demo", "report.html", values)


def _figures(outcome: Outcome) -> dict[str, object]:
    return {
        "roc": figures.roc_figure(outcome.batch),
        "scores": figures.score_figure(outcome.batch),
        "calibration": figures.calibration_figure(outcome.batch),
        "latency": figures.latency_figure(outcome.load),
        "throughput": figures.throughput_figure(outcome.load),
    }


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    load = outcome.load
    return [
        (f"{outcome.batch.auc:.3f}", "AUC of the batch's scores"),
        (f"{load.qps:,.0f}", f"requests/s, {load.load.users} users"),
        (milliseconds(load.latency.p50_s), "median latency"),
        (milliseconds(load.latency.p99_s), "99th percentile"),
    ]


def _facts_in_full(outcome: Outcome) -> list[tuple[str, str, str]]:
    batch, load = outcome.batch, outcome.load
    n_compared = sum(lane.n_rows for lane in outcome.lanes)
    return [
        (
            "differing scores",
            f"{outcome.n_differing:,}",
            f"of {n_compared:,}: batch against online",
        ),
        ("AUC", f"{batch.auc:.4f}", f"{len(batch.scores):,} flights of November and December"),
        (
            "batch",
            f"{batch.seconds:.1f} s",
            f"{len(batch.scores):,} rows, start of Ray included",
        ),
        *(
            (f"online, {lane.name}", f"{lane.rows_per_s:,.0f} rows/s", "one connection")
            for lane in outcome.lanes
        ),
        ("load", f"{load.qps:,.0f} requests/s", f"{load.load.users} users for {load.load.duration_s:g} s"),
        ("p50", milliseconds(load.latency.p50_s), f"{load.shed} shed, {load.failed} failed"),
        ("p95", milliseconds(load.latency.p95_s), ""),
        ("p99", milliseconds(load.latency.p99_s), ""),
        ("engine ready after", f"{outcome.start_s:.1f} s", "Ray and Ray Serve included"),
        ("all of it", f"{outcome.total_s:.0f} s", ""),
    ]


def _steps(outcome: Outcome) -> list[tuple[str, str, str, str, str]]:
    batch, load = outcome.batch, outcome.load
    rows = [
        ("train", "LightGBM, 100 trees of 31 leaves", outcome.n_trained, outcome.train_s),
        ("score", "Parquet through Ray Data, start of Ray included", len(batch.scores), batch.seconds),
        *(
            (
                "compare",
                f"JSON over the {_LANES[lane.name]}, one connection",
                lane.n_rows,
                lane.n_rows / lane.rows_per_s,
            )
            for lane in outcome.lanes
        ),
        (
            "load",
            f"Locust, {load.load.users} users",
            load.ok * load.load.rows_per_request,
            load.load.duration_s,
        ),
    ]
    return [
        (step, what, f"{n:,}", f"{seconds:.1f}", f"{n / seconds:,.0f}") for step, what, n, seconds in rows
    ]


_LANES = {"direct": "replica's own port", "ingress": "Ray Serve ingress"}


def _load_caption(outcome: Outcome) -> str:
    load = outcome.load
    words = f"{load.ok:,} requests of Locust in {load.load.duration_s:g} s"
    return f"{words}, {load.shed:,} shed, {load.failed:,} failed."
