"""``tandem demo``: from real flights to equal bits, in one command."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for what the demonstration makes.")] = Path("demo-output"),
) -> None:
    """Train on real flights, score them in bulk and online, compare the bits, and load the engine."""
    from engine.demo.report import print_outcome, write_report
    from engine.demo.run import Places, run_demo

    places = Places(out)
    outcome = run_demo(places)
    page = write_report(outcome, places.page, places.request, places.flights)
    print_outcome(outcome, page)
    if outcome.n_differing:
        raise typer.Exit(5)
