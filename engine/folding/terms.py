"""Feature pipelines in front of a linear model as what its kernel computes: transforms and tables.

What is made of a category is one number per category, so it becomes a table: the weights times the
transformed numbers, called from the real transform. Bins of a number become a table over the edges at
which the real transform changes, found by bisection. A chain over a number becomes the kernel's own
transform, imputed, clipped, scaled, bent and scaled; whether it does the same as the real one is
checked before it is believed (``agreement``).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from engine.errors import UnsupportedModel
from engine.folding.agreement import checked
from engine.folding.columns import Column
from engine.folding.edges import bin_edges
from engine.folding.forest import category_table
from engine.folding.quantiles import QuantileTransform, quantiles_of
from engine.folding.splits import Pipeline, evaluated, raw_type
from engine.folding.steps import Step
from engine.schema import Feature
from kernels.linear.quantiles import Quantiles
from kernels.linear.tables import Table
from kernels.linear.terms import Terms
from kernels.linear.transforms import Transform

Floats = NDArray[np.float64]


def terms_of(coef: Floats, intercept: Floats, features: Sequence[Feature], pipeline: Pipeline) -> Terms:
    """A linear model over the columns of a pipeline as one over raw features.

    Args:
        coef: [K, M], over the pipeline's columns.
        intercept: [K].
        features: The raw features.
        pipeline: What makes the columns.

    Raises ``UnsupportedModel`` for a chain that the kernel cannot compute.
    """
    columns, places = pipeline.columns, pipeline.places
    numeric = [index for index, column in enumerate(columns) if not features[column.source].is_coded]
    terms = [index for index in numeric if not columns[index].n_bins]
    ways = [_ways(features[columns[index].source], columns[index]) for index in terms]
    transforms = checked(features, pipeline, terms, ways)
    n_bins = {places[index]: columns[index].n_bins for index in numeric if columns[index].n_bins}
    return Terms(
        np.ascontiguousarray(coef[:, terms]),
        np.ascontiguousarray(intercept),
        [columns[index].source for index in terms],
        transforms,
        [*_category_tables(coef, features, pipeline), *_bin_tables(coef, features, pipeline, n_bins)],
    )


def transform_of(feature: Feature, column: Column, dtype: type[np.floating] = np.float64) -> Transform:
    """A chain as the kernel's one order of steps; raises ``UnsupportedModel`` where it has another.

    Args:
        feature: The raw feature.
        column: With the chain.
        dtype: What scikit-learn has the feature's numbers as, which is what it imputes and clips to, and
            moves the ends of normal scores.
    """
    if column.opaque:
        raise UnsupportedModel(
            f"{column.opaque} of feature '{feature.name}' has no columnar kernel for a linear model (impute,"
            " clip, log1p, power and quantile transforms, scale, bins and categories have); convert the"
            " pipeline with skl2onnx, or apply the step before Tandem"
        )
    chain = _Chain(feature.name, dtype)
    for step in column.steps:
        chain.then(step)
    return chain.transform()


class _Chain:
    """The steps so far as ``(f(clip(impute(x))) - shift) / scale``, f a curve of a scaled x, or none."""

    def __init__(self, name: str, dtype: type[np.floating]) -> None:
        self._name, self._dtype = name, dtype
        self._impute, self._low, self._high = np.nan, -np.inf, np.inf
        self._log1p, self._power, self._box_cox = False, np.nan, np.nan
        self._quantiles: Quantiles | None = None
        self._curve_shift, self._curve_scale = 0.0, 1.0
        self._shift, self._scale = 0.0, 1.0

    def transform(self) -> Transform:
        return Transform(
            self._impute, self._low, self._high, self._log1p, self._shift, self._scale,
            self._curve_shift, self._curve_scale, self._power, self._box_cox, self._quantiles,
        )  # fmt: skip

    def then(self, step: Step) -> None:
        """One more step after those so far."""
        if step.impute is not UNSET:
            self._then_impute(float(self._dtype(step.impute)))
        elif step.clip is not UNSET:
            self._then_clip(*(float(self._dtype(end)) for end in step.clip))
        elif step.log1p is not UNSET:
            self._then_curve()
            self._log1p = True
        elif step.yeo_johnson is not UNSET:
            self._then_curve()
            self._power = step.yeo_johnson
        elif step.box_cox is not UNSET:
            self._then_curve()
            self._box_cox = step.box_cox
        elif step.quantiles is not UNSET:
            self._then_quantiles(step.quantiles)
        elif step.multiply is not UNSET:
            self._then_scale(1.0 / step.multiply if step.multiply else np.inf)
        elif step.add is not UNSET:
            self._shift -= step.add * self._scale
        elif step.standardise is not UNSET:
            self._shift += step.standardise.mean * self._scale
            self._then_scale(step.standardise.std)

    def _then_impute(self, value: float) -> None:
        if not np.isnan(self._impute):
            return
        raw = self._raw(value)
        if not self._low <= raw <= self._high:
            raise self._refusal("imputes a value after clipping to others")
        self._impute = raw

    def _then_clip(self, low: float, high: float) -> None:
        if self._log1p and min(map(self._logged, (self._low, self._high))) < -1.0:
            raise self._refusal("clips after log1p, which makes numbers below -1 missing")
        ends = sorted((self._raw(low), self._raw(high)))
        self._low, self._high = (float(min(max(end, ends[0]), ends[1])) for end in (self._low, self._high))
        if not np.isnan(self._impute):
            self._impute = float(min(max(self._impute, ends[0]), ends[1]))

    @property
    def _is_bent(self) -> bool:
        """Whether there is a curve that ``_raw`` does not turn around."""
        return not (np.isnan(self._power) and np.isnan(self._box_cox) and self._quantiles is None)

    def _then_quantiles(self, step: QuantileTransform) -> None:
        if self._shift != 0 or abs(self._scale) != 1:
            raise self._refusal(
                "scales before a quantile transform, which then looks its number up among rounded ones; it"
                " takes no notice of scales, so train without them"
            )
        self._then_curve()
        self._quantiles = quantiles_of(step, self._dtype)

    def _then_curve(self) -> None:
        if self._log1p or self._is_bent:
            raise self._refusal("takes more than one of log1p, power and quantile transforms")
        self._curve_shift, self._curve_scale = self._shift, self._scale
        self._shift, self._scale = 0.0, 1.0

    def _then_scale(self, scale: float) -> None:
        if not np.isfinite(scale) or scale == 0.0:
            raise self._refusal("multiplies by 0 or divides by infinity")
        self._scale *= scale

    def _logged(self, raw: float) -> float:
        """What log1p is taken of where the clipped value is ``raw``."""
        return (raw - self._curve_shift) / self._curve_scale

    def _raw(self, value: float) -> float:
        """The raw value that the steps so far make ``value`` of."""
        if self._is_bent:
            raise self._refusal("imputes or clips after a power or quantile transform")
        with np.errstate(all="ignore"):
            inner = np.float64(value) * self._scale + self._shift
            logged = np.expm1(inner) * self._curve_scale + self._curve_shift
            raw = float(logged if self._log1p else inner)
        if np.isnan(raw):
            raise self._refusal("imputes or clips to no number")
        return raw

    def _refusal(self, what: str) -> UnsupportedModel:
        return UnsupportedModel(
            f"the chain of feature '{self._name}' {what}; the columnar kernel imputes, clips, scales, takes"
            " log1p, a power or a quantile transform and scales, in this order; reorder the steps, or"
            " convert the pipeline with skl2onnx"
        )


def _ways(feature: Feature, column: Column) -> list[Transform]:
    """What the chain may be: beside a float64 column scikit-learn has a float32 feature as float64 too."""
    ways = [transform_of(feature, column)]
    if ways[0].quantiles is not None and feature.type == "float32":
        ways.insert(0, transform_of(feature, column, np.float32))
    return ways


def _category_tables(coef: Floats, features: Sequence[Feature], pipeline: Pipeline) -> list[Table]:
    made = category_table(features, pipeline).astype(np.float64)
    tables = []
    for source, feature in enumerate(features):
        mine = [index for index, column in enumerate(pipeline.columns) if column.source == source]
        if not feature.is_coded or not mine:
            continue
        n_codes = len(feature.categories)
        values = made[[*range(n_codes), -2, -1]]
        tables.append(Table(source, None, _weights(coef, pipeline, mine, values)))
    return tables


def _bin_tables(
    coef: Floats, features: Sequence[Feature], pipeline: Pipeline, n_bins: Mapping[int, int]
) -> list[Table]:
    edges = bin_edges(features, pipeline, dict(sorted(n_bins.items())))
    sources = {place: pipeline.sources[place] for place in edges}
    inside = {place: _inside(edges[place], features[sources[place]]) for place in edges}
    points = {
        source: np.unique(np.concatenate([inside[place] for place in edges if sources[place] == source]))
        for source in sources.values()
    }
    made = evaluated(features, pipeline, points).astype(np.float64) if points else np.zeros((0, 0))
    tables = []
    for place, source in sources.items():
        values = made[np.searchsorted(points[source], inside[place])]
        mine = [index for index, where in enumerate(pipeline.places) if where == place]
        tables.append(Table(source, edges[place], _weights(coef, pipeline, mine, values)))
    return tables


def _inside(edges: Floats, feature: Feature) -> NDArray[np.floating]:
    """A raw number within each interval between edges [n], and a missing one if there may be: [n + 2]."""
    ends = edges.astype(raw_type(feature))
    last = np.nextafter(ends[-1:], np.array(np.inf, ends.dtype)) if len(ends) else np.zeros(1, ends.dtype)
    numbers = np.append(ends, last)
    return np.append(numbers, numbers[:1] if feature.required else np.array([np.nan], ends.dtype))


def _weights(coef: Floats, pipeline: Pipeline, mine: Sequence[int], values: Floats) -> Floats:
    """[N, K]: the sums, column by column, of the columns' coefficients times their values."""
    weights = np.zeros((len(values), len(coef)))
    for index in mine:
        column, numbers = pipeline.columns[index], values[:, pipeline.places[index]]
        if column.level is not None:
            numbers = np.where(np.isnan(numbers), np.nan, numbers == column.level)
        weights += numbers[:, None] * coef[:, index]
    return weights
