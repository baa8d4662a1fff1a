"""``tandem submit``, ``jobs``, ``status``, ``logs``, ``cancel``, ``resume``: the jobs of a running engine."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.batch_options import settings_of, with_batch_options
from engine.cli.interrupts import saying_when_interrupted
from engine.config import Batch
from engine.errors import InvalidConfig, TandemError

if TYPE_CHECKING:
    from engine.jobs.client import JobClient
    from engine.jobs.job import Job, Status

URL = Annotated[str, typer.Option(envvar="TANDEM_JOBS_URL", help="Where the engine takes jobs.")]
DEFAULT_URL = "http://127.0.0.1:8090"
Id = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job; `tandem jobs` lists them.")]
POLL_S = 0.5


@with_batch_options
def submit(
    bundle: Annotated[Path, typer.Argument(help="Directory of the bundle.")],
    input: Annotated[  # noqa: A002
        list[str],
        typer.Option("--input", "-i", help="Parquet file, directory or glob; s3:// too. Repeatable."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Directory or s3:// prefix for the scores.")],
    *,
    options: dict[str, Any],
    config: Annotated[
        Path | None,
        typer.Option(help="A YAML config whose `batch` section holds defaults for the options of the job."),
    ] = None,
    job: Annotated[str, typer.Option(help="Your own id for the job: the same id is the same job.")] = "",
    restart: Annotated[bool, typer.Option("--restart", help="Give up what an unfinished job left.")] = False,
    report: Annotated[str, typer.Option(help="Have an HTML page about the job written here, and JSON.")] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow the job to its end; exit code 5 if it fails.")
    ] = False,
    url: URL = DEFAULT_URL,
) -> None:
    """Give a batch job to a running engine; prints its id."""
    import msgspec

    from engine.config_file import read_config
    from engine.jobs.client import JobClient
    from engine.jobs.job import JobRequest

    wanted = {
        "bundle": str(bundle.absolute()),
        "inputs": [_absolute(location) for location in input],
        "output": _absolute(output),
        "settings": msgspec.to_builtins(
            settings_of(options, read_config(config).batch if config else Batch())
        ),
        "job": job,
        "restart": restart,
        "report": os.path.abspath(report) if report else "",
    }
    try:
        request = msgspec.convert(wanted, JobRequest)
    except msgspec.ValidationError as error:
        raise InvalidConfig(str(error)) from error
    client = JobClient(url)
    taken = client.submit(request)
    print(taken.id, flush=True)
    if not wait and taken.state not in ("queued", "running"):
        print(_summary(taken), file=sys.stderr)  # the same job, submitted before
    if wait:
        going = f"interrupted; the job goes on: tandem status {taken.id}, or tandem cancel {taken.id}"
        with saying_when_interrupted(going):
            _follow(client, taken.id)


def _follow(client: "JobClient", job: str) -> None:
    """Tell of a job until it ends; raises ``TandemError`` unless it is done then."""
    told = ""
    while True:
        status = client.status(job)
        state = status.job.state
        if (line := _line(status)) != told and state in ("queued", "running", "done"):
            print(line, file=sys.stderr)  # what else became of it, the error below says
        told = line
        if state == "done":
            return
        if state not in ("queued", "running"):
            way_out = "" if state == "cancelled" else f"; `tandem resume {job}` tries again"
            raise TandemError(f"job {job} {state}: {status.job.message}{way_out}")
        time.sleep(POLL_S)


def jobs(
    url: URL = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the jobs of a running engine, the newest first."""
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from engine.jobs.client import JobClient

    found = JobClient(url).jobs()
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    table = Table("job", "state", "submitted", "bundle", "output", "message")
    for job in found:
        table.add_row(job.id, job.state, _clock(job.submitted_s), Path(job.request.bundle).name,
                      job.request.output, job.message)  # fmt: skip
    Console().print(table if found else "no jobs yet; `tandem submit` gives one to the engine")


def status(
    job: Id,
    url: URL = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Show how far a job is: rows, rate and what is left."""
    import msgspec

    from engine.jobs.client import JobClient

    found = JobClient(url).status(job)
    print(msgspec.json.encode(found).decode() if as_json else _line(found))


def logs(job: Id, url: URL = DEFAULT_URL) -> None:
    """Print what a job's process wrote."""
    from engine.jobs.client import JobClient

    if text := JobClient(url).log(job):
        print(text, end="")
    else:
        print(f"nothing yet; `tandem status {job}` says how far it is", file=sys.stderr)


def cancel(job: Id, url: URL = DEFAULT_URL) -> None:
    """Stop a job; nothing of it becomes visible, and it can be resumed."""
    from engine.jobs.client import JobClient

    print(_summary(JobClient(url).cancel(job)))


def resume(job: Id, url: URL = DEFAULT_URL) -> None:
    """Go on with a failed or cancelled job where it stopped."""
    from engine.jobs.client import JobClient

    print(_summary(JobClient(url).resume(job)))


def _absolute(location: str) -> str:
    return location if "://" in location else os.path.abspath(location)


def _summary(job: "Job") -> str:
    return f"{job.id} {job.state}{f': {job.message}' if job.message else ''}"


def _line(status: "Status") -> str:
    if not status.rows_total:
        return _summary(status.job)  # not planned yet
    from engine.batch.progress import rate_in_words

    share = f" ({100 * status.rows_done // status.rows_total} %)"
    rate = f", {rate_in_words(status.rows_per_s)}" if status.rows_per_s else ""
    left = f", {status.seconds_left:.0f} s left" if status.seconds_left else ""
    return f"{_summary(status.job)}; {status.rows_done:,} of {status.rows_total:,} rows{share}{rate}{left}"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
