"""scikit-learn's ``Pipeline`` and ``ColumnTransformer`` as a ``folding.splits.Pipeline``.

Transformers are called, never re-implemented. What is read off them is which raw column each output
column is made of, by which steps, and which categories there are.
"""

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace
from numpy.typing import NDArray

from engine.errors import UnsupportedModel
from engine.folding.columns import Column
from engine.folding.forest import unseen_value
from engine.folding.sklearn_columns import ENCODERS, columns_of, indices_of
from engine.folding.splits import Evaluate, Pipeline
from engine.folding.steps import before
from engine.schema import Feature

Features = tuple[Feature, ...]
FLOAT64 = np.dtype(np.float64)


def taking_any_number(transformer: Any) -> Any:
    """One that makes NaN of numbers from 0 down where Box and Cox's transform refuses the whole table."""
    if not any(map(_is_box_cox, _parts(transformer))):
        return transformer
    copied = copy.deepcopy(transformer)
    for part in filter(_is_box_cox, _parts(copied)):
        part.transform = partial(_of_positive, part.transform)
    return copied


def _is_box_cox(part: Any) -> bool:
    return type(part).__name__ == "PowerTransformer" and part.method == "box-cox"


def _of_positive(transform: Callable[[Any], Any], X: Any) -> Any:
    positive = X > 0
    return transform(X.where(positive) if hasattr(X, "where") else np.where(positive, X, np.nan))


def raw_features(transformer: Any, *, finite: bool = False) -> Features:
    """The features that a fitted transformer takes, with the categories its encoders know.

    A feature is ``required`` if the transformer refuses it missing, or hands it on missing to a model
    that wants ``finite`` numbers; ``unseen`` says what it makes of a category it does not know.
    """
    names = getattr(transformer, "feature_names_in_", None)
    if names is None:
        names = [f"x{number}" for number in range(transformer.n_features_in_)]
    categories = _categories(transformer, _inputs(transformer))
    features = tuple(
        Feature(str(name), "category", categories[index], unseen="other")
        if index in categories
        else Feature(str(name))
        for index, name in enumerate(names)
    )
    probe = _Probe(transformer, features, finite)
    missing = probe.refused(dict.fromkeys(range(len(features)), np.nan))
    coded = [index for index, feature in enumerate(features) if feature.type == "category"]
    unseen = probe.refused({index: unseen_value(features[index]) for index in coded})
    return tuple(
        replace(feature, required=index in missing, unseen="bad" if index in unseen else feature.unseen)
        for index, feature in enumerate(features)
    )


def pipeline_of(transformer: Any, features: Features, dtype: np.dtype, absent: float = 0.0) -> Pipeline:
    """The transformer as a pipeline whose columns a model compares as ``dtype``.

    Args:
        transformer: Fitted.
        features: What ``raw_features`` says of it.
        dtype: float32 or float64.
        absent: What the model takes for what a sparse matrix leaves out: 0, or NaN.

    Raises ``UnsupportedModel`` for a transformer whose columns are not each made of one feature.
    """
    columns = columns_of(transformer, _inputs(transformer))
    _check_uses(columns, features)
    binned = any(column.level is not None for column in columns)
    evaluate = _evaluate(_with_bin_numbers(transformer) if binned else transformer, dtype, absent)
    pipeline = Pipeline(evaluate, columns)
    try:
        if binned and absent != 0 and _is_sparse(transformer, features, columns):
            raise UnsupportedModel(
                "what a sparse matrix leaves out is missing for this model, not 0; use"
                " KBinsDiscretizer(encode='onehot-dense') and ColumnTransformer(sparse_threshold=0)"
            )
        _check_apart(pipeline, features)
    except ValueError as error:
        raise UnsupportedModel(
            f"the transformers refuse ordinary values: {error}; clip the features first, or apply what"
            " refuses them before Tandem"
        ) from error
    return pipeline


def without_dropped(transformer: Any, features: Features, pipeline: Pipeline) -> tuple[Features, Pipeline]:
    """The features and the pipeline without the named columns that a ``ColumnTransformer`` drops at once.

    Where columns have no names, all are asked for, as they come in one array.
    """
    dropped = _dropped(transformer) if hasattr(transformer, "feature_names_in_") else set()
    taken = [index for index in range(len(features)) if index not in dropped]
    places = {index: place for place, index in enumerate(taken)}

    def evaluate(columns: Sequence[NDArray[Any]]) -> NDArray[np.floating]:
        given, unused = dict(zip(taken, columns, strict=True)), np.zeros(len(columns[0]))
        return pipeline.evaluate([given.get(index, unused) for index in range(len(features))])

    columns = [dataclasses.replace(column, source=places[column.source]) for column in pipeline.columns]
    return tuple(features[index] for index in taken), Pipeline(evaluate, columns)


def _dropped(transformer: Any) -> set[int]:
    """The columns that a transformer, or its first step, hands to no part of it."""
    match type(transformer).__name__:
        case "Pipeline":
            return _dropped(transformer.steps[0][1])
        case "ColumnTransformer":
            parts = [columns for _, part, columns in transformer.transformers_ if part != "drop"]
            taken = {index for columns in parts for index in indices_of(transformer, columns)}
            return set(range(transformer.n_features_in_)) - taken
        case _:
            return set()


def _check_uses(columns: Sequence[Column], features: Features) -> None:
    for column in columns:
        if features[column.source].type == "category" and not column.encoded and column.n_bins != 1:
            raise UnsupportedModel(
                f"feature '{features[column.source].name}' is used as a number and as a category;"
                " give each use a column of its own"
            )


def _inputs(transformer: Any) -> list[Column]:
    return [Column(index) for index in range(transformer.n_features_in_)]


def _evaluate(transformer: Any, dtype: np.dtype, absent: float) -> Evaluate:
    names = getattr(transformer, "feature_names_in_", None)

    def evaluate(columns: Sequence[NDArray[Any]]) -> NDArray[np.floating]:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = transformer.transform(_frame(columns, names))
            dense = _filled(result, absent) if hasattr(result, "tocoo") else np.asarray(result)
            return np.asarray(dense, np.float64).astype(dtype)

    return evaluate


def _filled(sparse: Any, absent: float) -> NDArray[np.float64]:
    entries = sparse.tocoo()
    dense = np.full(entries.shape, absent)
    dense[entries.row, entries.col] = entries.data
    return dense


def _frame(columns: Sequence[NDArray[Any]], names: Any) -> Any:
    if names is not None:
        import pandas as pd

        return pd.DataFrame(dict(zip(map(str, names), columns, strict=True)))
    if any(column.dtype == object for column in columns):
        return np.array([list(row) for row in zip(*columns, strict=True)], dtype=object)
    return np.column_stack(columns)


def _is_sparse(transformer: Any, features: Features, columns: Sequence[Column]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = getattr(transformer, "feature_names_in_", None)
        return hasattr(transformer.transform(_frame(_usual(features, columns), names)), "tocoo")


def _usual(features: Features, columns: Sequence[Column], n_rows: int = 1) -> list[NDArray[Any]]:
    """A value that any transformer takes, for each feature: 0, or what Box and Cox's transform has a 1 of."""
    numbers = [0.0] * len(features)
    for column in columns:
        for place, step in enumerate(column.steps):
            if step.box_cox is not UNSET:
                numbers[column.source] = before(1.0, column.steps[:place])
    return [
        np.array([feature.categories[0]] * n_rows, object)
        if feature.type == "category"
        else np.full(n_rows, number)
        for feature, number in zip(features, numbers, strict=True)
    ]


def _with_bin_numbers(transformer: Any) -> Any:
    """A copy in which one-hot bins are bin numbers."""
    copied = copy.deepcopy(transformer)
    if hasattr(copied, "set_output"):
        copied.set_output(transform="default")
    for part in _parts(copied):
        if type(part).__name__ == "KBinsDiscretizer":
            part.encode = "ordinal"
        if hasattr(part, "sparse_output_"):
            part.sparse_output_ = False  # where no part is sparse any more, SciPy cannot join them
    return copied


def _parts(transformer: Any) -> Iterator[Any]:
    """A transformer and all within it."""
    yield transformer
    match type(transformer).__name__:
        case "Pipeline":
            inner = [step for _, step in transformer.steps]
        case "FeatureUnion":
            inner = [part for _, part in transformer.transformer_list]
        case "ColumnTransformer":
            inner = [part for _, part, _ in transformer.transformers_]
        case _:
            inner = []
    for part in inner:
        yield from _parts(part)


def _check_apart(pipeline: Pipeline, features: Features) -> None:
    """Raise ``UnsupportedModel`` where a column changes with another feature than its own.

    Two rows per feature differ from the first row in this feature alone.
    """
    sources = np.array(pipeline.sources)
    rows = _usual(features, pipeline.columns, 2 * len(features) + 1)
    for index, feature in enumerate(features):
        other = [feature.categories[-1]] * 2 if feature.type == "category" else [0.75, 2.5]
        rows[index][2 * index + 1 : 2 * index + 3] = other
    values = pipeline.evaluate(rows)
    if values.shape[1] != len(sources):
        raise UnsupportedModel(
            f"the transformers make {values.shape[1]} columns, not the {len(sources)} that they are known for"
        )
    alone = pipeline.evaluate([column[:1] for column in rows])
    owner = np.repeat(np.arange(len(features)), 2)[:, None]
    same = (values[1:] == values[0]) | (np.isnan(values[1:]) & np.isnan(values[0])) | (owner == sources)
    if not same.all() or not np.array_equal(alone[0], values[0], equal_nan=True):
        column = int(np.argmin(same.all(axis=0)))
        raise UnsupportedModel(
            f"column {column} of the transformers is made of more than feature"
            f" '{features[sources[column]].name}' of its own row, and cannot be folded"
        )


def _categories(transformer: Any, inputs: Sequence[Column]) -> dict[int, tuple[str | int, ...]]:
    """The categories of each raw column that an encoder meets, by the column's index."""
    kind = type(transformer).__name__
    found: dict[int, tuple[str | int, ...]] = {}
    if kind == "Pipeline":
        for _, step in transformer.steps:
            found = {**_categories(step, inputs), **found}
            inputs = list(inputs) if step is None else columns_of(step, inputs)
    elif kind == "ColumnTransformer":
        for _, part, columns in transformer.transformers_:
            if part != "drop":
                inner = [inputs[index] for index in indices_of(transformer, columns)]
                found = _united(found, _categories(part, inner))
    elif kind == "FeatureUnion":
        for _, part in transformer.transformer_list:
            found = _united(found, _categories(part, inputs))
    elif kind in ENCODERS:
        for column, known in zip(inputs, transformer.categories_, strict=True):
            values = (value for value in known if value is not None and value == value)
            found[column.source] = tuple(map(_plain, values))
    return found


def _united(
    one: dict[int, tuple[str | int, ...]], other: dict[int, tuple[str | int, ...]]
) -> dict[int, tuple[str | int, ...]]:
    """The categories of both: two encoders may know a feature's from their own options."""
    return {
        index: tuple(dict.fromkeys((*one.get(index, ()), *other.get(index, ()))))
        for index in one.keys() | other.keys()
    }


def _plain(value: Any) -> str | int:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    raise UnsupportedModel(
        f"categories must be strings or integers to be folded, got {value!r}; cast the column"
        " to strings before training"
    )


class _Probe:
    """Asks a transformer about odd values, with usual ones in the other features."""

    def __init__(self, transformer: Any, features: Features, finite: bool) -> None:
        self._evaluate = _evaluate(transformer, FLOAT64, 0.0)
        self._features, self._finite = features, finite
        self._columns = columns_of(transformer, _inputs(transformer))

    def refused(self, odd: Mapping[int, object]) -> set[int]:
        """The features whose odd value is not taken: all are asked for in one table, by halves if need be."""
        if not odd:
            return set()
        columns = _usual(self._features, self._columns, len(odd))
        for row, (index, value) in enumerate(odd.items()):
            columns[index][row] = value
        try:
            made = self._evaluate(columns)
        except ValueError:
            if len(odd) == 1:
                return set(odd)
            values, half = list(odd.items()), len(odd) // 2
            return self.refused(dict(values[:half])) | self.refused(dict(values[half:]))
        unfit = ~np.isfinite(made).all(axis=1) if self._finite else np.zeros(len(odd), np.bool_)
        return set(np.array(list(odd))[unfit].tolist())
