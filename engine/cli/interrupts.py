"""What a verb says when Ctrl-C ends it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

ERASE_THE_LINE = "\r\x1b[K"


@contextmanager
def saying_when_interrupted(sentence: str) -> Iterator[None]:
    """Ctrl-C inside the block prints a sentence in the place of the line it struck, and exits with 130."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"{ERASE_THE_LINE if sys.stderr.isatty() else ''}{sentence}", file=sys.stderr)
        raise typer.Exit(130) from None
