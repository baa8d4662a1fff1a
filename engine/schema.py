"""What a model's features and outputs are: names, types, categories and the rules for odd values.

Plain values, decoded from manifests and ``features.yaml``. How data becomes numbers is ``prepare``.
"""

from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

FeatureType = Literal[
    "float32", "float64", "bool",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "category",
]  # fmt: skip


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input column of a model.

    A numeric value is rounded to ``type`` at every door, so that a JSON number and a Parquet
    value of that type are the same bits. A category is looked up in ``categories``; its place
    is the code the model knows.

    Attributes:
        name: Column name in tables, key in JSON rows, tensor name on the wire.
        type: The column's type; ``category`` for values looked up in ``categories``.
        categories: All strings or all integers, in code order; only with type ``category``.
        required: A missing value (null or NaN) makes the row bad instead of being scored.
        unseen: What a category not in ``categories`` is: a ``missing`` value, a ``bad`` row, or
            ``other``, the code ``len(categories)``, which no split knows.
        buckets: Any string is a category, and its number is its bucket of so many, by
            ``kernels.columns.hashing``.
    """

    name: str
    type: FeatureType = "float64"
    categories: tuple[str | int, ...] = ()
    required: bool = False
    unseen: Literal["missing", "bad", "other"] = "missing"
    buckets: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)] | UnsetType = UNSET

    @property
    def is_coded(self) -> bool:
        """Whether its numbers are codes of the categories listed."""
        return self.type == "category" and not self.buckets

    def __post_init__(self) -> None:
        """Raise a ``ValueError``, which msgspec turns into its own with the path of the key."""
        if len({type(category) for category in self.categories}) > 1:
            raise ValueError(f"expected all strings or all integers as categories of '{self.name}'")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"a category of '{self.name}' is listed twice")


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model answers for a row.

    Attributes:
        name: Column (or its prefix) in tables, key in JSON, tensor name on the wire.
        type: Type of the score.
        labels: One per output where there are several; columns are then ``name_label``.
    """

    name: str = "score"
    type: Literal["float32", "float64"] = "float64"
    labels: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the output's table columns."""
        return tuple(f"{self.name}_{label}" for label in self.labels) or (self.name,)


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The features of a model in its own order, and its output.

    Attributes:
        features: In the order of the model's columns.
        block: The float type all features of a prepared block have: ``float32`` only where no
            feature needs more.
        output: The score.
    """

    features: tuple[Feature, ...]
    block: Literal["float32", "float64"] = "float64"
    output: Output = Output()

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def dtype(self) -> np.dtype:
        """The NumPy type of a prepared block."""
        return np.dtype(self.block)
