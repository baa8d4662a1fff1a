"""``tandem load``: how many requests a second, how fast, and up to where?"""

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.interrupts import saying_when_interrupted
from engine.config import Load
from engine.errors import InvalidConfig

DEFAULTS = Load()
"""What holds where neither an option nor a config file says anything."""
SEARCHED_SLO = "p99=20ms"


def load(
    target: Annotated[str, typer.Argument(help="URL of an engine, or its config file.")],
    sample: Annotated[str, typer.Option(help="Parquet file or folder to draw rows from.")] = "",
    model: Annotated[str, typer.Option(help="Model to score; needed where there are several.")] = "",
    users: Annotated[
        int | None,
        typer.Option(min=1, help="Closed loop: concurrent users.", show_default=str(DEFAULTS.users)),
    ] = None,
    duration: Annotated[
        str, typer.Option(help="How long to send: 10, 30s, 2m.", show_default=f"{DEFAULTS.duration_s:g}s")
    ] = "",
    rate: Annotated[
        float,
        typer.Option(
            min=0, max=1e6, help="Open loop instead: Poisson arrivals a second.", show_default=False
        ),
    ] = 0.0,
    shape: Annotated[str, typer.Option(help="constant, steps, spike or diurnal.")] = "constant",
    wire: Annotated[str, typer.Option(help="rows, oip, binary, arrow or grpc.")] = "rows",
    rows_per_request: Annotated[
        int | None,
        typer.Option(min=1, help="Rows in each request.", show_default=str(DEFAULTS.rows_per_request)),
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="With --wire grpc: the engine's gRPC port; else the config's, or the URL's plus one.",
        ),
    ] = None,
    deadline: Annotated[
        str, typer.Option(help="How long each request waits at most, such as 50ms; else the engine's SLO.")
    ] = "",
    generator: Annotated[str, typer.Option(help="locust, or fast for high rates.")] = "locust",
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that generate load.", show_default=str(DEFAULTS.processes)),
    ] = None,
    slo: Annotated[
        str, typer.Option(help="A promise such as p99=20ms; exit code 3 where it is missed.")
    ] = "",
    find_max: Annotated[
        bool,
        typer.Option(
            "--find-max", help=f"Search the largest rate that keeps --slo, or {SEARCHED_SLO} without one."
        ),
    ] = False,
    target_rate: Annotated[
        float, typer.Option(min=0, help="With --find-max: replicas for this rate?", show_default=False)
    ] = 0.0,
    baseline: Annotated[Path | None, typer.Option(help="JSON of an earlier run to compare with.")] = None,
    json: Annotated[Path | None, typer.Option(help="File to write the result to.")] = None,
    csv: Annotated[Path | None, typer.Option(help="File to write the run to, second by second.")] = None,
    html: Annotated[Path | None, typer.Option(help="Page to write.")] = None,
    web: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port for Locust's own web page, instead of all this."),
    ] = None,
) -> None:
    """Send real rows to an engine and tell requests a second and p50, p95 and p99."""
    with saying_when_interrupted("interrupted; a run that did not end leaves no result"):
        from load_tests.command import Wishes, plan_load
        from load_tests.verb import Outputs, load_test, open_web_page, search

        wishes = Wishes(
            sample=sample,
            model=model,
            users=users,
            duration=duration,
            rate=rate,
            rows_per_request=rows_per_request,
            shape=shape,
            processes=processes,
            generator=generator,
            wire=wire,
            deadline=deadline,
            grpc_port=grpc_port,
        )
        if target_rate and not find_max:
            raise InvalidConfig("--target-rate asks what a search found; give --find-max with it")
        if csv and find_max:
            raise InvalidConfig("--csv is of one run, and --find-max makes many; leave one out")
        planned, rows = plan_load(target, wishes)
        outputs = Outputs(json, csv, html, baseline)
        if web is not None:
            open_web_page(planned, rows, web)
        elif find_max:
            raise typer.Exit(search(planned, rows, slo or SEARCHED_SLO, target_rate, outputs))
        else:
            raise typer.Exit(load_test(planned, rows, slo, outputs))
