"""Transforms declared in a features file: how a model's columns are made of the raw features.

Computed in float64, in the order they are listed, then rounded to what the model compares in. They
are folded into a forest's splits, so they cost nothing when scoring.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from engine.errors import InvalidConfig
from engine.folding.columns import Column
from engine.folding.splits import Pipeline
from engine.folding.steps import Numbers, Step, chained
from engine.schema import Feature


class CategoryMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number per category (ordinal, target or frequency encoding).

    Attributes:
        values: By category.
        unseen: For any other category; without it such a row is bad.
        missing: For a missing value; without it such a row is bad.
    """

    values: dict[str | int, float]
    unseen: float | UnsetType = UNSET
    missing: float | UnsetType = UNSET


class Hash(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Strings as numbers of buckets, by ``kernels.columns.hashing``; a missing one stays missing."""

    buckets: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]


class Transform(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """How one column of the model is made.

    Attributes:
        source: The raw feature; ``from`` in the file.
        steps: A chain for a number.
        map: A number per category.
        equals: 1 for this category, 0 for any other (one-hot).
        hash: The bucket of a string.
    """

    source: str
    steps: tuple[Step, ...] = ()
    map: CategoryMap | None = None
    equals: str | int | None = None
    hash: Hash | None = None

    def __post_init__(self) -> None:
        """One way to make a column."""
        ways = (self.map, self.equals, self.hash, self.steps or None)
        if sum(way is not None for way in ways) > 1:
            raise ValueError(
                f"expected one of steps, map, equals and hash for what is made from '{self.source}'"
            )


def raw_features(
    columns: Sequence[Feature], transforms: Mapping[str, Transform]
) -> tuple[tuple[Feature, ...], list[int]]:
    """The raw features behind a model's columns, and per column the index of its own.

    A column without a transform is the raw feature of its name. Raises ``InvalidConfig``.
    """
    if unknown := sorted(transforms.keys() - {column.name for column in columns}):
        raise InvalidConfig(f"the features file transforms '{unknown[0]}', which the model does not have")
    raw: dict[str, Feature] = {}
    for column in columns:
        transform = transforms.get(column.name)
        wanted = column if transform is None else _raw(transform)
        raw[wanted.name] = _merged(raw.get(wanted.name, wanted), wanted)
    places = {name: index for index, name in enumerate(raw)}
    names = [
        transforms[column.name].source if column.name in transforms else column.name for column in columns
    ]
    return tuple(raw.values()), [places[name] for name in names]


def pipeline_of(
    columns: Sequence[Feature],
    transforms: Mapping[str, Transform],
    raw: Sequence[Feature],
    sources: Sequence[int],
    dtype: np.dtype,
) -> Pipeline:
    """The declared transforms as a pipeline whose columns a model compares as ``dtype``."""
    makers = [
        _maker(column, transforms.get(column.name), raw[source])
        for column, source in zip(columns, sources, strict=True)
    ]

    def evaluate(values: Sequence[NDArray[Any]]) -> NDArray[np.floating]:
        with np.errstate(all="ignore"):
            made = [make(values[source]) for make, source in zip(makers, sources, strict=True)]
            return np.column_stack(made).astype(dtype)

    return Pipeline(
        evaluate,
        [
            _column(transforms.get(column.name), source, raw[source])
            for column, source in zip(columns, sources, strict=True)
        ],
    )


def _column(transform: Transform | None, source: int, raw: Feature) -> Column:
    """What is known of the column; bins are known as such where they come last."""
    if transform is None or raw.type == "category":
        return Column(source, encoded=raw.is_coded)
    *before, last = transform.steps or (Step(add=0.0),)
    if any(step.bucketise is not UNSET for step in before):
        return Column(source, opaque="bucketise before other steps")
    n_bins = 0 if last.bucketise is UNSET else len(last.bucketise) + 1
    return Column(source, transform.steps, n_bins=n_bins)


def _raw(transform: Transform) -> Feature:
    if transform.equals is not None:
        return Feature(transform.source, "category", (transform.equals,), unseen="other")
    if transform.hash is not None:
        return Feature(transform.source, "category", buckets=transform.hash.buckets)
    if transform.map is None:
        return Feature(transform.source)
    return Feature(
        transform.source,
        "category",
        tuple(transform.map.values),
        required=transform.map.missing is UNSET,
        unseen="bad" if transform.map.unseen is UNSET else "other",
    )


def _merged(one: Feature, other: Feature) -> Feature:
    """A raw feature that serves two columns: all categories of both, the stricter rules."""
    if one.type != other.type:
        raise InvalidConfig(f"raw feature '{one.name}' is used as a number and as a category")
    if one.buckets != other.buckets:
        raise InvalidConfig(f"raw feature '{one.name}' is hashed in one column and not so in another")
    categories = tuple(dict.fromkeys((*one.categories, *other.categories)))
    bad = "bad" in (one.unseen, other.unseen)
    return Feature(
        one.name,
        one.type,
        categories,
        one.required or other.required,
        "bad" if bad else one.unseen,
        one.buckets,
    )


def _maker(column: Feature, transform: Transform | None, raw: Feature) -> Callable[[NDArray[Any]], Numbers]:
    if transform is None and column.type == "category":
        codes: dict[object, float] = {category: code for code, category in enumerate(column.categories)}
        other = float(len(codes)) if column.unseen == "other" else np.nan
        return lambda values: _looked_up(values, codes, unseen=other, missing=np.nan)
    if transform is None or transform.hash is not None:
        return lambda values: values.astype(np.float64)
    if transform.equals is not None:
        return lambda values: (values == transform.equals).astype(np.float64)
    if transform.map is not None:
        mapped = transform.map
        unseen = 0.0 if mapped.unseen is UNSET else mapped.unseen
        missing = 0.0 if mapped.missing is UNSET else mapped.missing
        table: dict[object, float] = {
            category: mapped.values.get(category, unseen) for category in raw.categories
        }
        return lambda values: _looked_up(values, table, unseen=unseen, missing=missing)
    return lambda values: chained(values.astype(np.float64), transform.steps)


def _looked_up(
    values: NDArray[Any], table: Mapping[object, float], *, unseen: float, missing: float
) -> Numbers:
    return np.array(
        [missing if value is None or value != value else table.get(value, unseen) for value in values],
        np.float64,
    )
