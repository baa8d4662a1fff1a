"""``features.yaml`` and a sample of the data: what a model file does not say about its features.

The order of belief is: the features file, then the sample's column types, then the model. A model's
own categories are never overruled, because another order would silently score other rows.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import UNSET, UnsetType

from engine.after import labels_after
from engine.bundle import After
from engine.config_file import read_yaml
from engine.errors import InvalidConfig, InvalidTable, UnsupportedModel
from engine.folding.declared import Transform
from engine.schema import Feature, FeatureType, Output

NARROW = frozenset({"float32", "bool", "int8", "int16", "uint8", "uint16", "category"})
"""Types whose every value a float32 holds."""

PARQUET = (".parquet", ".parq", ".pq")

UNSPEAKABLE = re.compile(r'["\\\x00-\x1f]')
"""What a key of JSON must escape; rows are decoded by keys that are as they are written."""


class FeatureOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the features file says about one feature; each key may be left out.

    Attributes:
        rename: The name the data has for it, where the model has another (``Column_3``).
        type, categories, required, unseen: As in ``schema.Feature``.
    """

    rename: str | UnsetType = UNSET
    type: FeatureType | UnsetType = UNSET
    categories: tuple[str | int, ...] | UnsetType = UNSET
    required: bool | UnsetType = UNSET
    unseen: Literal["missing", "bad", "other"] | UnsetType = UNSET


class OutputOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the features file says about the score.

    Attributes:
        name: Name of the score, or its prefix where there are several.
        labels: One per output where there are several.
        tensor: Which output of an ONNX graph is the score, where it has several.
        thresholds: One per score, and a column per score says whether it reaches it.
        top: How many of a row's best scores are answered instead of all of them, each with its number.
    """

    name: str | UnsetType = UNSET
    tensor: str | UnsetType = UNSET
    labels: tuple[str, ...] | UnsetType = UNSET
    thresholds: tuple[float, ...] = ()
    top: Annotated[int, msgspec.Meta(ge=0)] = 0


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole features file: features by name, how the model's columns are made of them, the output.

    Without ``transforms``, the features are the model's columns.
    """

    features: dict[str, FeatureOptions] = {}
    transforms: dict[str, Transform] = {}
    output: OutputOptions = OutputOptions()

    def categories(self, name: str) -> tuple[str | int, ...]:
        """The categories given for a feature, or none."""
        given = self.features.get(name, FeatureOptions()).categories
        return () if given is UNSET else given


def read_options(path: str | os.PathLike[str]) -> Options:
    """Decode a features file; raises ``InvalidConfig`` with the key's path."""
    return read_yaml(path, Options, "a features file")


def read_sample(path: str | os.PathLike[str]) -> pa.Schema:
    """Column names and types of a Parquet file, or those that hold every file's of a folder.

    Raises ``InvalidTable``.
    """
    place = Path(path)
    files = _parquet_files(place) if place.is_dir() else [place]
    if not files:
        raise InvalidTable(f"expected Parquet files ({', '.join(PARQUET)}) in {path}, found none")
    schemas = [_read_schema(file) for file in files]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        raise InvalidTable(f"the Parquet files in {path} have other types each: {error}") from error


def _parquet_files(folder: Path) -> list[Path]:
    """As a job takes them from its input: hidden ones (``_``, ``.``) do not count."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in PARQUET
        and path.is_file()
        and not any(name[0] in "_." for name in path.relative_to(folder).parts)
    )


def _read_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except FileNotFoundError as error:
        raise InvalidTable(f"expected a Parquet file or a folder of them at {path}, found nothing") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidTable(f"{path} is no Parquet file: {error}") from error


def settle(
    features: Sequence[Feature], options: Options, sample: pa.Schema | None, *, block: str
) -> tuple[Feature, ...]:
    """The features as the data will carry them.

    Args:
        features: As the model knows them.
        options: The features file.
        sample: Column types of the data, if known.
        block: ``float32`` where the model itself rounds to it.

    Raises:
        InvalidConfig: The features file names unknown features or contradicts the model.
        InvalidTable: The sample lacks a feature or holds a type no feature can have.
        UnsupportedModel: A category is an integer that int64 does not hold.
    """
    known = {feature.name for feature in features}
    if unknown := sorted(options.features.keys() - known):
        raise InvalidConfig(
            f"the features file names {listed(unknown)}, which the model does not have;"
            f" its features are {listed(sorted(known))}"
        )
    settled = tuple(
        _settle(feature, options.features.get(feature.name, FeatureOptions()), sample, block)
        for feature in features
    )
    _check_integers(settled)
    names = [feature.name for feature in settled]
    if odd := [name for name in names if UNSPEAKABLE.search(name)]:
        raise InvalidConfig(
            f"expected feature names without quotation marks, backslashes and control characters, got"
            f" {listed(odd)}; rename them in the data and in a features file"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidConfig(f"expected distinct feature names, got {listed(twice)} more than once")
    return settled


def settle_output(output: Output, options: OutputOptions) -> Output:
    """The output under the features file's names; raises ``InvalidConfig`` for a wrong number of labels."""
    labels = output.labels if options.labels is UNSET else options.labels
    if len(labels) != len(output.labels):
        n_outputs = max(1, len(output.labels))
        raise InvalidConfig(
            f"the model has {n_outputs} outputs, got {len(labels)} labels in the features file"
        )
    answered = labels_after(After(options.thresholds, options.top), labels)
    return Output(output.name if options.name is UNSET else options.name, output.type, answered)


def narrow(features: Sequence[Feature]) -> bool:
    """Whether a float32 block holds every value of these features exactly."""
    return all(feature.type in NARROW for feature in features)


def _check_integers(features: Sequence[Feature]) -> None:
    for feature in features:
        for category in feature.categories:
            if isinstance(category, int) and not -(1 << 63) <= category < 1 << 63:
                raise UnsupportedModel(
                    f"feature '{feature.name}' has the category {category:.17g}, which int64 does not hold;"
                    " train on strings"
                )


def _settle(feature: Feature, given: FeatureOptions, sample: pa.Schema | None, block: str) -> Feature:
    name = feature.name if given.rename is UNSET else given.rename
    categories = _categories(feature, given)
    kind: FeatureType = "category" if categories else feature.type
    if categories and feature.buckets:
        raise InvalidConfig(f"feature '{feature.name}' is hashed, so it has no categories to list")
    if sample is not None and given.type is UNSET:
        kind = _sampled(name, kind, sample)
    if given.type is not UNSET:
        kind = given.type
    if (kind == "category") != bool(categories or feature.buckets):
        raise InvalidConfig(f"feature '{feature.name}': 'categories' and type 'category' go together")
    if kind == "float64" and block == "float32":
        kind = "float32"
    required = feature.required if given.required is UNSET else given.required
    unseen = feature.unseen if given.unseen is UNSET else given.unseen
    try:
        return Feature(name, kind, categories, required, unseen, feature.buckets)
    except ValueError as error:
        raise InvalidConfig(f"features file: {error}") from error


def _categories(feature: Feature, given: FeatureOptions) -> tuple[str | int, ...]:
    if given.categories is UNSET:
        return feature.categories
    if feature.categories and feature.categories != given.categories:
        raise InvalidConfig(
            f"feature '{feature.name}' brings its own {len(feature.categories)} categories with the model;"
            f" remove the {len(given.categories)} of the features file"
        )
    return given.categories


def _sampled(name: str, kind: FeatureType, sample: pa.Schema) -> FeatureType:
    if sample.get_field_index(name) < 0:
        raise InvalidTable(f"the sample lacks column '{name}'; it has {listed(sample.names)}")
    column = sample.field(name).type
    found = _feature_type(column)
    if found is None:
        raise InvalidTable(f"the sample's column '{name}' is {column}, which no feature can be")
    if kind == "category":
        if found.startswith("float"):
            raise InvalidTable(f"the sample's column '{name}' is {column}, expected categories")
        return kind
    if found == "category":
        raise InvalidTable(
            f"the sample's column '{name}' is {column}, but the model has no categories for it;"
            " list them in code order in a features file"
        )
    return found


def _feature_type(column: pa.DataType) -> FeatureType | None:
    if pa.types.is_dictionary(column) or pa.types.is_string(column) or pa.types.is_large_string(column):
        return "category"
    if column == pa.string_view():
        return "category"
    if pa.types.is_float16(column):
        return "float32"
    names = {pa.float32(): "float32", pa.float64(): "float64", pa.bool_(): "bool", pa.null(): "float64"}
    if pa.types.is_integer(column):
        return str(column)  # type: ignore[return-value]
    return names.get(column)  # type: ignore[return-value]


def listed(names: Sequence[str], limit: int = 10) -> str:
    """Names in quotes for a message, the first of them if there are many."""
    quoted = ", ".join(f"'{name}'" for name in names[:limit])
    return quoted + (f" and {len(names) - limit} more" if len(names) > limit else "")
