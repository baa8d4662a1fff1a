"""What a contender of the kernel benchmark is. Imports nothing that its environment may lack."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Batch = Any
"""Rows in the form that a library likes best; making it is not timed."""


@dataclass(frozen=True, slots=True)
class Contender:
    """How a library scores.

    Attributes:
        version: The library's.
        prepare: Makes a batch of C-order float32[n, F].
        score: Answers the margins of a batch.
        about: What is worth saying beside the name.
        most_rows: Larger batches are not for it.
    """

    version: str
    prepare: Callable[[Any], Batch]
    score: Callable[[Batch], Any]
    about: str = ""
    most_rows: int = 1 << 40
