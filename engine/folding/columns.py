"""What is known of a model's columns before any number goes through their transforms."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.folding.steps import Step


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a model, made of one raw feature.

    Attributes:
        source: Index of the raw feature.
        steps: The chain, as a features file would list it; only its beginning where ``opaque`` is set.
        opaque: The first transformer that no such step describes; it can still be called.
        encoded: Whether an encoder turned categories into it.
        n_bins: Where the column is a bin's number, how many bins there are: 1 for an indicator, whose
            only other value is that of a missing one.
        level: Where the column is 1 in one bin and 0 in the others, this bin.
    """

    source: int
    steps: tuple[Step, ...] = ()
    opaque: str = ""
    encoded: bool = False
    n_bins: int = 0
    level: int | None = None


def places_of(columns: Sequence[Column]) -> list[int]:
    """Per column its place once the columns of a feature's one-hot bins are one column of bin numbers."""
    places: list[int] = []
    for index, column in enumerate(columns):
        continues = bool(column.level) and index > 0  # level 0 starts the next one
        places.append((places[-1] if places else -1) + (not continues))
    return places
