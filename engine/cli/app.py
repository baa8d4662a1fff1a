"""The ``tandem`` command: its verbs, and how errors leave it.

Exit codes: 0 done; 1 a bug (with its traceback), or ``verify`` found a row that differs; 2 the call
was wrong; 3 a stated SLO was missed; 4 the world is in another state (output exists, job changed);
5 the machine failed; 130 interrupted.
"""

import errno
import gc
import os
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Annotated

import typer

from engine.cli.demo import demo
from engine.cli.inspect import inspect
from engine.cli.jobs import cancel, jobs, logs, resume, status, submit
from engine.cli.load import load
from engine.cli.pack import pack
from engine.cli.score import score
from engine.cli.serve import serve
from engine.cli.verify import verify
from engine.errors import Conflict, InvalidConfig, InvalidInput, TandemError

PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "A model": (pack, inspect),
    "Batch": (score, verify),
    "Jobs of a running engine": (submit, jobs, status, logs, cancel, resume),
    "Real time": (serve, load),
    "First steps": (demo,),
}
app = typer.Typer(
    name="tandem",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"tandem {metadata.version('tandem-scoring')}")
        raise typer.Exit


@app.callback(no_args_is_help=True)
def command(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """Score Parquet in bulk and requests in microseconds, with the same kernels and the same bits."""


for panel, verbs in PANELS.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)


def main() -> None:
    """Run the command line; a deliberate error or a failing file prints its sentence, a bug a traceback."""
    try:
        _check_encoding(sys.argv[1:])
        app()
    except TandemError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(exit_code(error))
    except OSError as error:
        if error.filename is None and error.errno != errno.EMFILE:
            raise
        place = "ulimit -n" if error.filename is None else error.filename
        print(f"error: {error.strerror} - at {place}", file=sys.stderr)
        sys.exit(5)
    finally:
        gc.freeze()  # else the interpreter searches a compiler's hundred thousand objects before it ends


def _check_encoding(arguments: list[str]) -> None:
    """Refuse what Arrow and JSON cannot hold, such as a path with a name in Latin-1."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InvalidConfig(f"expected arguments in UTF-8, got {os.fsencode(argument)!r}") from None


def exit_code(error: TandemError) -> int:
    """The exit code of a deliberate error."""
    if isinstance(error, InvalidInput):
        return 2
    return 4 if isinstance(error, Conflict) else 5
