"""``tandem verify``: an output's scores against its bundle, and against an endpoint."""

from typing import Annotated

import typer


def verify(
    output: Annotated[str, typer.Argument(help="Directory or s3:// prefix that tandem score filled.")],
    sample: Annotated[int, typer.Option(min=1, help="Rows to compare, at least.")] = 10_000,
    url: Annotated[str, typer.Option(help="An endpoint that serves the model; compared too.")] = "",
    seed: Annotated[int, typer.Option(help="Chooses the sample.")] = 0,
    job: Annotated[
        str, typer.Option(help="Compare only what this job wrote; else all jobs that appended here.")
    ] = "",
) -> None:
    """Score a sample of an output again, here and over the wire; exit code 1 if any row differs."""
    from engine.batch.verification import verify as verify_output

    found = verify_output(output, n_rows=sample, url=url, seed=seed, job=job)
    print(f"{found.rows:,} rows scored again from the input: {found.differing:,} differ")
    if found.changed_files:
        print(f"{found.changed_files:,} files are not those of the manifest any more")
    if url:
        print(f"{found.wire_rows:,} rows sent to {url}: {found.wire_differing:,} differ")
    if not found.is_sound:
        raise typer.Exit(1)
