"""Whether the transforms that the linear kernel computes are what a pipeline makes of raw numbers.

Asked on a grid of numbers, beside every quantile and where a value is missing, before a model is believed.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.errors import UnsupportedModel
from engine.folding.ordered_floats import grid
from engine.folding.search import REACHES
from engine.folding.splits import Pipeline, evaluated_or_missing, raw_type
from engine.folding.steps import box_cox, yeo_johnson
from engine.schema import Feature
from kernels.linear.quantiles import PLACE, UNIFORM, scores_of
from kernels.linear.transforms import Transform
from kernels.scores.normal import ROOT_2_PI

Floats = NDArray[np.float64]
CLOSE = 1e-12
"""How far a chain may lie from the real transform, beside the numbers that enter its last sum."""
SINGLE_CLOSE = 2.0**-20
"""The same for float32 features, on which scikit-learn computes in float32 and the kernel in float64."""
LOST = 2.0**-6
"""How much of Box and Cox's power of a scaled number near 1 may be rounding."""
SHARE_CLOSE = 2.0**-52
"""How far a share of the training data may lie from scikit-learn's."""


def checked(
    features: Sequence[Feature], pipeline: Pipeline, terms: Sequence[int], ways: Sequence[list[Transform]]
) -> list[Transform]:
    """The way of each column that is the pipeline's, where finite; raises ``UnsupportedModel``."""
    sources = [pipeline.columns[index].source for index in terms]
    points = {
        source: _points(
            features[source], [way[0] for way, of in zip(ways, sources, strict=True) if of == source]
        )
        for source in sources
    }
    if not points:
        return []
    made = evaluated_or_missing(features, pipeline, points)
    chosen = []
    for index, source, transforms in zip(terms, sources, ways, strict=True):
        raw = points[source]
        real = made[: len(raw), pipeline.places[index]].astype(np.float64)
        wrong = [_first_apart(raw, real, transform) for transform in transforms]
        if None not in wrong:
            raise UnsupportedModel(
                f"the chain of feature '{features[source].name}' does not compute what its steps say, first"
                f" at {wrong[0]!r}; convert the pipeline with skl2onnx"
            )
        chosen.append(transforms[wrong.index(None)])
    return chosen


def transformed(x: Floats, transform: Transform) -> Floats:
    """What the kernel makes of numbers [n], in NumPy."""
    x = np.where(np.isnan(x), transform.impute, x)
    x = np.where(x < transform.low, transform.low, x)
    x = np.where(x > transform.high, transform.high, x)
    with np.errstate(all="ignore"):
        bent = (x - transform.curve_shift) / transform.curve_scale
        if transform.log1p:
            x = np.log1p(bent)
        elif not np.isnan(transform.power):
            x = yeo_johnson(bent, transform.power)
        elif not np.isnan(transform.box_cox):
            x = box_cox(bent, transform.box_cox)
        elif transform.quantiles is not None:
            x = scores_of(bent, transform.quantiles)
        return (x - transform.shift) / transform.scale


def _points(feature: Feature, transforms: Sequence[Transform]) -> NDArray[np.floating]:
    """Numbers to try: a grid, each quantile with the numbers beside it, and NaN unless that is refused."""
    dtype = raw_type(feature)
    known = [
        np.append(quantiles.knots[PLACE], [quantiles.low_end, quantiles.high_end]) * transform.curve_scale
        for transform in transforms
        if (quantiles := transform.quantiles) is not None
    ]
    places = np.concatenate([*known, np.zeros(0)]).astype(dtype)
    beside = [np.nextafter(places, np.array(towards, dtype)) for towards in (-np.inf, np.inf)]
    numbers = np.unique(np.concatenate([grid(dtype, REACHES[-1]), places, *beside]))
    missing = np.array([] if feature.required else [np.nan], dtype)
    return np.append(numbers[np.isfinite(numbers)], missing)


def _first_apart(points: NDArray[np.floating], real: Floats, transform: Transform) -> float | None:
    """The first number whose transform is not the real one, up to rounding; where that is finite."""
    raw = points.astype(np.float64)
    own = transformed(raw, transform)
    entering = 0.0 if transform.quantiles else np.abs(np.nan_to_num(raw))
    largest = (entering + abs(transform.shift)) / abs(transform.scale) + np.abs(real)
    close = CLOSE if points.dtype == np.float64 else SINGLE_CLOSE
    if transform.curve_shift and abs(transform.box_cox) * close > LOST:
        return transform.curve_shift + transform.curve_scale
    tiny = float(np.finfo(points.dtype).smallest_normal)
    curve = close * _roughness(raw, transform, close) + tiny
    with np.errstate(all="ignore"):  # inf - inf
        same = np.abs(own - real) <= largest * close + curve / abs(transform.scale)
        reached = (np.abs(own * transform.scale + transform.shift) + curve) * max(1, 1 / abs(transform.scale))
        overflows = reached > np.finfo(points.dtype).max
    same |= (np.isnan(own) & np.isnan(real)) | np.isinf(own) | np.isinf(real)
    same |= overflows & np.isnan(real)  # scikit-learn refuses infinities, of float32 too
    same |= _at_end(raw, transform, close, tiny)
    return None if same.all() else float(raw[np.argmin(same)])


def _roughness(raw: Floats, transform: Transform, close: float) -> Floats:
    """How far the curve of numbers [n] is off, in units of ``close``: the rounding of what goes into it."""
    bent, size = _bent(raw, transform)
    with np.errstate(all="ignore"):
        if transform.log1p:
            exact = (transform.curve_shift, transform.curve_scale) == (0.0, 1.0)
            rough = np.zeros(len(raw)) if exact else size / np.abs(1.0 + bent)
        elif not np.isnan(transform.power):
            power = np.where(bent < 0, 2.0 - transform.power, transform.power)
            beyond = 1.0 + np.abs(bent)
            rough = beyond**power * (np.log(beyond) + size / beyond)
        elif not np.isnan(transform.box_cox):
            exponent, ends = transform.box_cox, (np.abs(bent) - close * size, np.abs(bent) + close * size)
            steepest = np.maximum(ends[0] ** (exponent - 1.0), ends[1] ** (exponent - 1.0))
            rough = size * steepest + np.abs(bent) ** exponent * np.abs(np.log(np.abs(bent)))
        elif transform.quantiles is not None and transform.quantiles.kind != UNIFORM:
            score = scores_of(bent, transform.quantiles)
            rough = SHARE_CLOSE / CLOSE * ROOT_2_PI * np.exp(0.5 * score * score)
        else:
            rough = np.zeros(len(raw))
    return np.where(np.isnan(rough), 0.0, rough)


def _at_end(raw: Floats, transform: Transform, close: float, tiny: float) -> NDArray[np.bool_]:
    """Where the curve of a scaled number ends: there even whether it is a number is left to rounding.

    Numbers below ``tiny`` are rounded like it.
    """
    bent, size = _bent(raw, transform)
    scaled = (transform.curve_shift, transform.curve_scale) != (0.0, 1.0)
    end = -1.0 if transform.log1p else np.nan if np.isnan(transform.box_cox) else 0.0
    at_end: NDArray[np.bool_] = scaled & (close * size + tiny >= np.abs(bent - end))
    return at_end


def _bent(raw: Floats, transform: Transform) -> tuple[Floats, Floats]:
    """What the curve of numbers [n] is taken of, and how large that is before anything is taken away."""
    x = np.clip(np.where(np.isnan(raw), transform.impute, raw), transform.low, transform.high)
    with np.errstate(all="ignore"):
        bent = (x - transform.curve_shift) / transform.curve_scale
        size = (np.abs(x) + abs(transform.curve_shift)) / abs(transform.curve_scale)
    return bent, size
