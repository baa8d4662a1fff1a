"""The options of a batch job, defined once for every verb that takes a job on."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
import typer

from engine.config import Batch, in_words
from engine.errors import InvalidConfig

OPTIONS: dict[str, tuple[type, str]] = {
    "keep": (str, "Input columns to write beside the score, separated by commas."),
    "runner": (str, "auto, local (one process) or ray."),
    "device": (
        str,
        "bundle (what the model was packed for), cpu, cuda (a GPU) or auto (a GPU where it is faster).",
    ),
    "mode": (str, "Where the output holds a result: error, overwrite or append."),
    "where": (str, "Score only these rows, such as 'month >= 11 and carrier == \"UA\"'."),
    "limit": (int, "Score only so many first rows of the input; 0 for all."),
    "on_bad_row": (str, "fail, null (a null score) or quarantine (set aside, with reasons)."),
    "max_bad_fraction": (float, "A larger share of bad rows fails the job."),
    "partition_by": (str, "Input columns that become directories of the output, separated by commas."),
    "unit_rows": (int, "Rows committed at once, as an output file (one per partition)."),
    "file_bytes": (
        int,
        "Bytes per output file, about, where --unit-rows makes larger ones; 0 for one file per unit.",
    ),
    "compression": (str, "snappy, zstd, lz4 or none."),
    "threads": (int, "Cores for the local runner; 0 for all."),
}
"""Type and help by key of the config's ``batch``; lists are texts."""
LISTS = ("keep", "partition_by")
ALSO = {"keep": "--columns"}
"""Other names that people know an option by."""


def with_batch_options(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb whose argument ``options`` holds the values of the options that were given, by name."""

    @functools.wraps(verb)
    def command(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in OPTIONS}
        verb(**arguments, options={name: value for name, value in given.items() if value is not None})

    signature = inspect.signature(verb)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "options"]
    parameters = [*own, *map(_parameter, OPTIONS)]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def settings_of(options: Mapping[str, Any], base: Batch) -> Batch:
    """The settings that options, as given, make of others; raises ``InvalidConfig``."""
    changed = {name: _names(value) if name in LISTS else value for name, value in options.items()}
    try:
        return msgspec.convert(msgspec.to_builtins(base) | changed, Batch)
    except msgspec.ValidationError as error:
        raise InvalidConfig(_of_an_option(in_words(error, Batch))) from error


def _of_an_option(sentence: str) -> str:
    """A sentence about a key of the config, about the option of that name."""
    place = re.search(r" - at `\$\.(\w+).*?`", sentence)
    if place is None:
        return sentence
    return f"--{place[1].replace('_', '-')}: {sentence.replace(place[0], '')}"


def _parameter(name: str) -> inspect.Parameter:
    kind, words = OPTIONS[name]
    default = getattr(Batch(), name)
    flags = [f"--{name.replace('_', '-')}", *([ALSO[name]] if name in ALSO else [])]
    option = typer.Option(*flags, help=words, show_default=str(default) if default not in ((), "") else False)
    annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
