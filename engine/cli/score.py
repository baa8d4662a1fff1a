"""``tandem score``: Parquet in, Parquet with scores out."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from engine.config import Batch
from engine.errors import InvalidConfig


def score(
    bundle: Annotated[str, typer.Argument(help="Directory of the bundle.")],
    input: Annotated[  # noqa: A002 (the option is called so)
        list[str],
        typer.Option("--input", "-i", help="Parquet file, directory or glob; s3:// too. Repeatable."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Directory or s3:// prefix for the scores.")],
    keep: Annotated[
        str, typer.Option(help="Input columns to write beside the score, separated by commas.")
    ] = "",
    runner: Annotated[str, typer.Option(help="auto, local (this process) or ray.")] = "auto",
    device: Annotated[
        str, typer.Option(help="cpu, cuda (a GPU) or auto (a GPU where it is faster).")
    ] = "cpu",
    mode: Annotated[
        str, typer.Option(help="Where the output holds a result: error, overwrite or append.")
    ] = "error",
    where: Annotated[
        str, typer.Option(help="Score only these rows, such as 'month >= 11 and carrier == \"UA\"'.")
    ] = "",
    limit: Annotated[int, typer.Option(help="Score only so many first rows of the input; 0 for all.")] = 0,
    on_bad_row: Annotated[
        str, typer.Option(help="fail, null (a null score) or quarantine (set aside, with reasons).")
    ] = "fail",
    max_bad_fraction: Annotated[float, typer.Option(help="A larger share of bad rows fails the job.")] = 1.0,
    partition_by: Annotated[
        str, typer.Option(help="Input columns that become directories of the output.")
    ] = "",
    unit_rows: Annotated[int, typer.Option(help="Rows per output file.")] = 1_048_576,
    compression: Annotated[str, typer.Option(help="snappy, zstd, lz4 or none.")] = "snappy",
    threads: Annotated[int, typer.Option(help="Cores for the local runner; 0 for all.")] = 0,
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
    from engine.batch import job as jobs
    from engine.batch.progress import shown

    settings = _settings(
        keep=_names(keep), runner=runner, device=device, mode=mode, where=where, limit=limit,
        on_bad_row=on_bad_row, max_bad_fraction=max_bad_fraction, partition_by=_names(partition_by),
        unit_rows=unit_rows, compression=compression, threads=threads,
    )  # fmt: skip
    if dry_run:
        print(jobs.dry_run(bundle, input, output, settings=settings))
        return
    result = jobs.score_files(bundle, input, output, settings=settings, job=job, restart=restart, show=shown)
    print(f"{result.record.rows_out:,} rows scored into {output}")
    if report and result.done:
        from engine.batch.report import write_report

        write_report(result, Path(report))


def _settings(**options: object) -> Batch:
    try:
        return msgspec.convert(options, Batch)
    except msgspec.ValidationError as error:
        raise InvalidConfig(f"{error} (an option of tandem score)") from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
