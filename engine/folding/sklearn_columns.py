"""Which raw feature each output column of fitted scikit-learn transformers is made of, and by which steps.

A transformer that mixes columns, or whose columns cannot be told apart, is refused by name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import UNSET

from engine.errors import UnsupportedModel
from engine.folding.columns import Column
from engine.folding.quantiles import QuantileTransform
from engine.folding.steps import Scale, Step

Columns = list[Column]
WAY_OUT = "apply it before Tandem, or convert the pipeline with skl2onnx and pack the graph"
HASH = (
    "give the model abs(sklearn.utils.murmurhash3_32(text, seed=0)) % n of each column of strings, and"
    " declare it in a features file as `hash: {buckets: n}`"
)
WAYS_OUT = {"FeatureHasher": HASH}
"""Where there is a better one than ``WAY_OUT``."""


def columns_of(transformer: Any, inputs: Sequence[Column]) -> Columns:
    """The columns that a transformer makes of its inputs; raises ``UnsupportedModel``."""
    kind = type(transformer).__name__
    if kind == "str" and transformer == "passthrough":
        return list(inputs)
    if reader := COMPOSITE.get(kind):
        return reader(transformer, inputs)
    if any(column.level is not None for column in inputs):
        raise UnsupportedModel(f"{kind} works on one-hot bins: let them be the last step of a chain")
    if kind in SELECTORS:
        return [inputs[index] for index in transformer.get_support(indices=True)]
    if kind in ENCODERS:
        widths = zip(inputs, ENCODERS[kind](transformer), strict=True)
        return [_encoded(column, kind) for column, width in widths for _ in range(width)]
    if steps := CHAINS.get(kind):
        return [_chained(column, steps(transformer, index), kind) for index, column in enumerate(inputs)]
    raise not_of_one_feature(kind)


def not_of_one_feature(kind: str) -> UnsupportedModel:
    """The refusal of a transformer that mixes features, or takes no table."""
    way_out = WAYS_OUT.get(kind, WAY_OUT)
    return UnsupportedModel(
        f"{kind} cannot be folded: its columns are not each made of one feature; {way_out}"
    )


def indices_of(transformer: Any, columns: Any) -> list[int]:
    """A ColumnTransformer's choice of columns as indices."""
    if isinstance(columns, str | int):
        columns = [columns]
    if isinstance(columns, slice):
        columns = range(transformer.n_features_in_)[_places(transformer, columns)]
    chosen = list(columns)
    if chosen and isinstance(chosen[0], bool | np.bool_):
        return [int(index) for index in np.flatnonzero(chosen)]
    if chosen and isinstance(chosen[0], str):
        places = {str(name): index for index, name in enumerate(transformer.feature_names_in_)}
        return [places[name] for name in chosen]
    return [int(index) for index in chosen]


def _places(transformer: Any, columns: slice) -> slice:
    """A slice by places; one by names has its last name in it."""
    if not isinstance(columns.start, str) and not isinstance(columns.stop, str):
        return columns
    names = list(map(str, transformer.feature_names_in_))
    first = None if columns.start is None else names.index(columns.start)
    end = None if columns.stop is None else names.index(columns.stop) + 1
    return slice(first, end, columns.step)


def _encoded(column: Column, kind: str) -> Column:
    if column.opaque or column.n_bins or any(step.impute is UNSET for step in column.steps):
        raise UnsupportedModel(
            f"{kind} encodes what another step has computed; only imputers may stand before it; {WAY_OUT}"
        )
    return replace(column, encoded=True, steps=())


def _chained(column: Column, steps: Sequence[Step] | None, kind: str) -> Column:
    if column.opaque or column.encoded or column.n_bins == 1:
        return column
    if column.n_bins:
        return replace(column, n_bins=0, opaque=f"{kind} after bins")
    if steps is None:
        return replace(column, opaque=kind)
    return replace(column, steps=(*column.steps, *steps))


def _one_after_the_other(pipeline: Any, inputs: Sequence[Column]) -> Columns:
    columns = list(inputs)
    for _, step in pipeline.steps:
        columns = columns if step is None else columns_of(step, columns)
    return columns


def _union(union: Any, inputs: Sequence[Column]) -> Columns:
    if union.transformer_weights:
        raise UnsupportedModel(f"a FeatureUnion with transformer_weights cannot be folded; {WAY_OUT}")
    parts = [part for _, part in union.transformer_list if part != "drop"]
    return [column for part in parts for column in columns_of(part, inputs)]


def _side_by_side(transformer: Any, inputs: Sequence[Column]) -> Columns:
    if transformer.transformer_weights:
        raise UnsupportedModel(f"a ColumnTransformer with transformer_weights cannot be folded; {WAY_OUT}")
    columns: Columns = []
    for name, part, chosen in transformer.transformers_:
        taken = transformer.output_indices_[name]
        if part == "drop" or taken.start == taken.stop:
            continue
        if taken.start != len(columns):
            raise UnsupportedModel("the parts of this ColumnTransformer are not side by side in their order")
        columns += columns_of(part, [inputs[index] for index in indices_of(transformer, chosen)])
        if len(columns) != taken.stop:
            raise UnsupportedModel(
                f"'{name}' of the ColumnTransformer makes {taken.stop - taken.start} columns,"
                f" not the {len(columns) - taken.start} that its transformers are known for"
            )
    return columns


def _imputed(imputer: Any, inputs: Sequence[Column]) -> Columns:
    """The columns kept, then the indicators; a column without any value in fit is dropped by default."""
    columns = []
    # Fitted on float32 it keeps float64 means, and fills in what float32 makes of them.
    filled = imputer.statistics_.astype(getattr(imputer, "_fill_dtype", imputer.statistics_.dtype))
    for column, value in zip(inputs, filled, strict=True):
        empty = value is None or value != value
        if empty and not imputer.keep_empty_features and imputer.strategy != "constant":
            continue
        if not _is_nan(imputer.missing_values):
            columns.append(_chained(column, None, "SimpleImputer(missing_values=…)"))
        elif isinstance(value, int | float | np.number):
            columns.append(_chained(column, [Step(impute=float(value))], "SimpleImputer"))
        else:
            columns.append(column)
    indicator = getattr(imputer, "indicator_", None)
    return columns + ([] if indicator is None else _indicated(indicator, inputs))


def _is_nan(value: object) -> bool:
    """By value: what was pickled and loaded again is another NaN than ``np.nan``."""
    return isinstance(value, float) and value != value


def _indicated(indicator: Any, inputs: Sequence[Column]) -> Columns:
    columns = [inputs[index] for index in map(int, indicator.features_)]
    if not _is_nan(indicator.missing_values):
        return [_chained(column, None, "MissingIndicator(missing_values=…)") for column in columns]
    return [replace(column, steps=(), opaque="", n_bins=0 if column.encoded else 1) for column in columns]


def _binned(bins: Any, inputs: Sequence[Column]) -> Columns:
    if any(column.encoded for column in inputs):
        raise UnsupportedModel("KBinsDiscretizer works on what are categories already; give it numbers")
    columns = []
    for column, n_bins in zip(inputs, map(int, bins.n_bins_), strict=True):
        levels = [None] if bins.encode == "ordinal" else range(n_bins)
        columns += [replace(column, n_bins=n_bins, level=level) for level in levels]
    return columns


def _binarized(binarizer: Any, inputs: Sequence[Column]) -> Columns:
    del binarizer
    return [column if column.encoded else replace(column, n_bins=2) for column in inputs]


COMPOSITE: Mapping[str, Callable[[Any, Sequence[Column]], Columns]] = {
    "Pipeline": _one_after_the_other,
    "ColumnTransformer": _side_by_side,
    "FeatureUnion": _union,
    "SimpleImputer": _imputed,
    "MissingIndicator": _indicated,
    "KBinsDiscretizer": _binned,
    "Binarizer": _binarized,
}
SELECTORS = frozenset({
    "SelectKBest", "SelectPercentile", "SelectFpr", "SelectFdr", "SelectFwe", "SelectFromModel",
    "VarianceThreshold", "RFE", "RFECV", "SequentialFeatureSelector", "GenericUnivariateSelect",
})  # fmt: skip


def _one_hot_widths(encoder: Any) -> list[int]:
    """Per feature: its categories, the infrequent ones as one, without the one that is dropped."""
    nothing = [None] * len(encoder.categories_)
    infrequent = getattr(encoder, "infrequent_categories_", nothing)
    dropped = nothing if encoder.drop_idx_ is None else encoder.drop_idx_
    return [
        len(known) - (0 if rare is None else len(rare) - 1) - (drop is not None)
        for known, rare, drop in zip(encoder.categories_, infrequent, dropped, strict=True)
    ]


def _target_widths(encoder: Any) -> list[int]:
    per_feature = len(encoder.encodings_) // len(encoder.categories_)
    return [per_feature] * len(encoder.categories_)


ENCODERS: Mapping[str, Callable[[Any], list[int]]] = {
    "OneHotEncoder": _one_hot_widths,
    "OrdinalEncoder": lambda encoder: [1] * len(encoder.categories_),
    "TargetEncoder": _target_widths,
}
"""How many columns each category becomes."""


def _standard(scaler: Any, index: int) -> list[Step]:
    mean = 0.0 if scaler.mean_ is None or not scaler.with_mean else float(scaler.mean_[index])
    return [Step(standardise=Scale(mean, 1.0 if scaler.scale_ is None else float(scaler.scale_[index])))]


def _robust(scaler: Any, index: int) -> list[Step]:
    center = 0.0 if scaler.center_ is None else float(scaler.center_[index])
    return [Step(standardise=Scale(center, 1.0 if scaler.scale_ is None else float(scaler.scale_[index])))]


def _min_max(scaler: Any, index: int) -> list[Step]:
    low, high = scaler.feature_range
    steps = [Step(multiply=float(scaler.scale_[index])), Step(add=float(scaler.min_[index]))]
    return [*steps, Step(clip=(float(low), float(high)))] if scaler.clip else steps


def _max_abs(scaler: Any, index: int) -> list[Step]:
    return [Step(standardise=Scale(0.0, float(scaler.scale_[index])))]


def _power(transformer: Any, index: int) -> list[Step] | None:
    power = float(transformer.lambdas_[index])
    if not np.isfinite(power):
        return None
    curve = Step(box_cox=power) if transformer.method == "box-cox" else Step(yeo_johnson=power)
    return [curve, *(_standard(transformer._scaler, index) if transformer.standardize else [])]


def _quantiles(transformer: Any, index: int) -> list[Step] | None:
    values = tuple(transformer.quantiles_[:, index].tolist())
    try:
        return [Step(quantiles=QuantileTransform(values, transformer.output_distribution == "normal"))]
    except ValueError:  # a column of nothing but missing values has none
        return None


def _function(transformer: Any, index: int) -> list[Step] | None:
    del index
    given = transformer.kw_args or {}
    if transformer.func is None:
        return []
    if transformer.func is np.clip and given.keys() <= {"a_min", "a_max", "min", "max"}:
        low, high = given.get("a_min", given.get("min")), given.get("a_max", given.get("max"))
        return [Step(clip=(-np.inf if low is None else float(low), np.inf if high is None else float(high)))]
    if given:
        return None
    known = {np.log1p: Step(log1p=True), np.negative: Step(multiply=-1.0)}
    step = known.get(transformer.func, UNSET)
    return None if step is UNSET else [step]


CHAINS: Mapping[str, Callable[[Any, int], list[Step] | None]] = {
    "StandardScaler": _standard,
    "RobustScaler": _robust,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "FunctionTransformer": _function,
    "PowerTransformer": _power,
    "QuantileTransformer": _quantiles,
}
"""Transformers of one column each: their steps, or None where there are none that say it."""
