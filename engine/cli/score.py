"""``tandem score``: Parquet in, Parquet with scores out."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.batch_options import settings_of, with_batch_options
from engine.cli.interrupts import saying_when_interrupted
from engine.config import Batch


@with_batch_options
def score(
    bundle: Annotated[str, typer.Argument(help="Directory of the bundle.")],
    input: Annotated[  # noqa: A002 (the option is called so)
        list[str],
        typer.Option("--input", "-i", help="Parquet file, directory or glob; s3:// too. Repeatable."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Directory or s3:// prefix for the scores.")],
    *,
    options: dict[str, Any],
    job: Annotated[str, typer.Option(help="Your own id for the job: the same id is the same job.")] = "",
    restart: Annotated[
        bool, typer.Option("--restart", help="Give up what an unfinished job left here.")
    ] = False,
    report: Annotated[
        str, typer.Option(help="Write an HTML page about the job here, and JSON beside it.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take, and score nothing.")
    ] = False,
) -> None:
    """Score Parquet files, exactly once: called again, it resumes or finds its result."""
    with saying_when_interrupted("interrupted; the same command goes on where this one stopped"):
        from engine.batch import job as jobs
        from engine.batch.progress import shown

        settings = settings_of(options, Batch())
        if dry_run:
            print(jobs.dry_run(bundle, input, output, settings=settings))
            return
        result = jobs.score_files(
            bundle, input, output, settings=settings, job=job, restart=restart, show=shown
        )
    print(result.summary)
    if report and result.done:
        from engine.batch.report import write_report

        write_report(result, Path(report))
    elif report:
        print(f"no page is written to {report}: it tells of a run, and there was none", file=sys.stderr)
