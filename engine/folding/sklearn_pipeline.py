"""scikit-learn's ``Pipeline`` and ``ColumnTransformer`` as a ``folding.splits.Pipeline``.

Transformers are called, never re-implemented. What is read off them is only which raw column each
output column is made of, and which categories there are; a transformer that mixes columns, or whose
columns cannot be told apart, is refused by name.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import UnsupportedModel
from engine.folding.forest import unseen_value
from engine.folding.splits import Pipeline
from engine.schema import Feature

ONE_TO_ONE = frozenset({
    "SimpleImputer", "StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "PowerTransformer",
    "QuantileTransformer", "FunctionTransformer", "Binarizer", "OrdinalEncoder",
})  # fmt: skip
ENCODERS = frozenset({"OneHotEncoder", "OrdinalEncoder", "TargetEncoder"})

Features = tuple[Feature, ...]


def raw_features(transformer: Any) -> Features:
    """The features that a fitted transformer takes, with the categories its encoders know.

    A feature is ``required`` if the transformer refuses it missing; ``unseen`` says what it makes of
    a category it does not know.
    """
    names = getattr(transformer, "feature_names_in_", None)
    if names is None:
        names = [f"x{number}" for number in range(transformer.n_features_in_)]
    categories = _categories(transformer, range(len(names)))
    features = tuple(
        Feature(str(name), "category", categories[index], unseen="other")
        if index in categories
        else Feature(str(name))
        for index, name in enumerate(names)
    )
    return tuple(_with_rules(features, index, transformer) for index in range(len(features)))


def pipeline_of(transformer: Any, dtype: np.dtype) -> Pipeline:
    """The transformer as a pipeline whose columns a model compares as ``dtype``."""
    n_features = transformer.n_features_in_
    sources = _sources(transformer, range(n_features))
    return Pipeline(_evaluate(transformer, dtype), sources)


def _evaluate(transformer: Any, dtype: np.dtype) -> Callable[[Sequence[NDArray[Any]]], NDArray[np.floating]]:
    names = getattr(transformer, "feature_names_in_", None)

    def evaluate(columns: Sequence[NDArray[Any]]) -> NDArray[np.floating]:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = transformer.transform(_frame(columns, names))
            dense = result.toarray() if hasattr(result, "toarray") else np.asarray(result)
            return np.asarray(dense, np.float64).astype(dtype)

    return evaluate


def _frame(columns: Sequence[NDArray[Any]], names: Any) -> Any:
    if names is not None:
        import pandas as pd

        return pd.DataFrame(dict(zip(map(str, names), columns, strict=True)))
    if any(column.dtype == object for column in columns):
        return np.array([list(row) for row in zip(*columns, strict=True)], dtype=object)
    return np.column_stack(columns)


def _sources(transformer: Any, inputs: Sequence[int]) -> list[int]:
    """Per output column the raw column that it is made of."""
    kind = type(transformer).__name__
    match kind:
        case "Pipeline":
            for _, step in transformer.steps:
                inputs = _sources(step, inputs)
            return list(inputs)
        case "ColumnTransformer":
            return _sources_side_by_side(transformer, inputs)
        case "str" if transformer == "passthrough":
            return list(inputs)
        case "OneHotEncoder" | "TargetEncoder" | "KBinsDiscretizer":
            return [
                source
                for source, width in zip(inputs, _widths(transformer), strict=True)
                for _ in range(width)
            ]
        case _ if kind in ONE_TO_ONE and not getattr(transformer, "add_indicator", False):
            return list(inputs)
    raise UnsupportedModel(
        f"{kind} cannot be folded into a forest: its columns are not each made of one feature;"
        " apply it before Tandem, or convert the pipeline with skl2onnx and pack the graph"
    )


def _sources_side_by_side(transformer: Any, inputs: Sequence[int]) -> list[int]:
    sources: list[int] = []
    for name, part, columns in transformer.transformers_:
        taken = transformer.output_indices_[name]
        if part == "drop" or taken.start == taken.stop:
            continue
        if taken.start != len(sources):
            raise UnsupportedModel("the parts of this ColumnTransformer are not side by side in their order")
        sources += _sources(part, [inputs[index] for index in _indices(transformer, columns)])
        if len(sources) != taken.stop:
            raise UnsupportedModel(
                f"'{name}' of the ColumnTransformer makes {taken.stop - taken.start} columns,"
                f" not the {len(sources) - taken.start} that its transformers are known for"
            )
    return sources


def _widths(encoder: Any) -> list[int]:
    kind = type(encoder).__name__
    if kind == "KBinsDiscretizer":
        return [1 if encoder.encode == "ordinal" else int(n) for n in encoder.n_bins_]
    if kind == "TargetEncoder":
        per_feature = len(encoder.encodings_) // len(encoder.categories_)
        return [per_feature] * len(encoder.categories_)
    if getattr(encoder, "infrequent_categories_", None) is not None and any(
        infrequent is not None for infrequent in encoder.infrequent_categories_
    ):
        raise UnsupportedModel("a OneHotEncoder that lumps infrequent categories together cannot be folded")
    dropped = encoder.drop_idx_ if encoder.drop_idx_ is not None else [None] * len(encoder.categories_)
    return [len(known) - (drop is not None) for known, drop in zip(encoder.categories_, dropped, strict=True)]


def _categories(transformer: Any, inputs: Sequence[int]) -> dict[int, tuple[str | int, ...]]:
    """The categories of each raw column that an encoder meets, by the column's index."""
    kind = type(transformer).__name__
    found: dict[int, tuple[str | int, ...]] = {}
    if kind == "Pipeline":
        for _, step in transformer.steps:
            found = {**_categories(step, inputs), **found}
            inputs = _sources(step, inputs)
    elif kind == "ColumnTransformer":
        for _, part, columns in transformer.transformers_:
            if part != "drop":
                found |= _categories(part, [inputs[index] for index in _indices(transformer, columns)])
    elif kind in ENCODERS:
        for source, known in zip(inputs, transformer.categories_, strict=True):
            found[source] = tuple(_plain(value) for value in known if value is not None and value == value)
    return found


def _plain(value: Any) -> str | int:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    raise UnsupportedModel(f"categories must be strings or integers to be folded, got {value!r}")


def _indices(transformer: Any, columns: Any) -> list[int]:
    """A ColumnTransformer's choice of columns as indices."""
    if isinstance(columns, str | int):
        columns = [columns]
    if isinstance(columns, slice):
        columns = range(transformer.n_features_in_)[columns]
    chosen = list(columns)
    if chosen and isinstance(chosen[0], bool | np.bool_):
        return [int(index) for index in np.flatnonzero(chosen)]
    if chosen and isinstance(chosen[0], str):
        places = {str(name): index for index, name in enumerate(transformer.feature_names_in_)}
        return [places[name] for name in chosen]
    return [int(index) for index in chosen]


def _with_rules(features: Features, index: int, transformer: Any) -> Feature:
    """A feature that says what the transformer does to a missing value and to an unseen category."""
    feature = features[index]
    required = not _accepts(transformer, features, index, np.nan)
    if feature.type != "category":
        return Feature(feature.name, required=required)
    unseen: Literal["other", "bad"] = (
        "other" if _accepts(transformer, features, index, unseen_value(feature)) else "bad"
    )
    return Feature(feature.name, "category", feature.categories, required, unseen)


def _accepts(transformer: Any, features: Features, index: int, value: object) -> bool:
    """Whether the transformer takes a row with ``value`` in one feature and usual values in the others."""
    columns: list[NDArray[Any]] = []
    for place, feature in enumerate(features):
        is_category = feature.type == "category"
        usual = feature.categories[0] if is_category else 0.0
        columns.append(np.array([value if place == index else usual], object if is_category else np.float64))
    try:
        _evaluate(transformer, np.dtype(np.float64))(columns)
    except ValueError:
        return False
    return True
