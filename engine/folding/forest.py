"""Folding a feature pipeline into a forest: its splits are moved to where the raw data is.

A split asks ``T(x) <= t`` of a transformed value. Where ``T`` rises, this is ``x <= s``, with ``s``
the largest raw float whose transformed value passes; where it falls, ``x >= s``. ``s`` is found by
bisection over all floats in order, calling the *real* transform, so the folded forest takes the same
branch for every float, and its scores are the pipeline's, bit for bit. Example: ``log1p(x) <= 2.3``
becomes ``x <= 8.974182454814718``.

A transformed category is one number per category, so its split becomes the set of those that pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.folding.bins import on_bin_numbers
from engine.folding.search import Search
from engine.folding.splits import Pipeline, Split, goes_left, raw_type, splits_of
from engine.schema import Feature
from kernels.forests.forest import CATEGORICAL, DEFAULT_LEFT, LESS, Forest

UNSEEN = "\ufffeunseen"
"""Stands for a string that is no category."""


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A test on a raw feature, fields as in ``Forest``.

    Attributes:
        rule: Of the new split.
        threshold: Of a numeric split.
        codes: Of a categorical one: whether each code goes left, unseen last.
        swap: Left and right change places.
    """

    rule: int
    threshold: float = 0.0
    codes: NDArray[np.bool_] | None = None
    swap: bool = False


def fold(forest: Forest, features: Sequence[Feature], pipeline: Pipeline) -> Forest:
    """The forest over raw ``features`` that scores as ``forest`` does behind ``pipeline``.

    Raises ``UnsupportedModel`` for a transform that neither rises nor falls throughout.
    """
    forest = on_bin_numbers(forest, pipeline.columns)
    splits = splits_of(forest)
    distinct = list(dict.fromkeys(splits.values()))
    kinds = [features[pipeline.sources[split.column]].is_coded for split in distinct]
    categories = [split for split, is_category in zip(distinct, kinds, strict=True) if is_category]
    numbers = [split for split, is_category in zip(distinct, kinds, strict=True) if not is_category]
    folded = {
        **_fold_categories(forest, features, pipeline, categories),
        **_fold_numbers(forest, features, pipeline, numbers),
    }
    return _rewritten(forest, features, pipeline, {node: folded[split] for node, split in splits.items()})


def category_table(features: Sequence[Feature], pipeline: Pipeline) -> NDArray[np.floating]:
    """The model's columns [codes + 2, M] for every category: the codes in order, then unseen, then missing.

    Features with fewer categories are filled up with their first one, which also stands for what the
    feature forbids (``unseen: bad``, ``required``).
    """
    n_codes = max((len(feature.categories) for feature in features), default=0)
    columns: list[NDArray[np.generic]] = []
    for feature in features:
        if not feature.is_coded:
            columns.append(np.zeros(n_codes + 2, raw_type(feature)))
            continue
        first = feature.categories[0]
        values: list[object] = [*feature.categories, *[first] * (n_codes - len(feature.categories))]
        values.append(first if feature.unseen == "bad" else unseen_value(feature))
        values.append(first if feature.required else np.nan)
        columns.append(np.array(values, dtype=object))
    return pipeline.evaluate(columns)


def unseen_value(feature: Feature) -> object:
    """A value that is none of a feature's categories."""
    return UNSEEN if isinstance(feature.categories[0], str) else max(map(int, feature.categories)) + 1


def _fold_categories(
    forest: Forest, features: Sequence[Feature], pipeline: Pipeline, splits: Sequence[Split]
) -> Mapping[Split, Folded]:
    if not splits:
        return {}
    table = category_table(features, pipeline)
    folded = {}
    for split in splits:
        feature = features[pipeline.sources[split.column]]
        left = goes_left(forest, [split], table[:, split.column])
        codes = np.append(left[: len(feature.categories)], left[-2])
        folded[split] = Folded(int(CATEGORICAL | (DEFAULT_LEFT if left[-1] else 0)), codes=codes)
    return folded


def _fold_numbers(
    forest: Forest, features: Sequence[Feature], pipeline: Pipeline, splits: Sequence[Split]
) -> Mapping[Split, Folded]:
    if not splits:
        return {}
    search = Search(forest, features, pipeline, splits)
    low_left = search.low_left()
    edges, missing_left = search.edges(low_left), search.missing_left()
    return {
        split: _number(float(edge), bool(low), bool(missing))
        for split, edge, low, missing in zip(splits, edges, low_left, missing_left, strict=True)
    }


def _number(edge: float, low_left: bool, missing_left: bool) -> Folded:
    """``x <= edge`` or, if the high numbers go left, ``x >= edge``: ``x < edge`` turned around.

    An edge of NaN says that no number goes left: ``x < -inf``.
    """
    default = int(DEFAULT_LEFT) if missing_left else 0
    if np.isnan(edge):
        return Folded(int(LESS) | default, -np.inf)
    if low_left:
        return Folded(default, edge)
    return Folded(int(LESS) | (int(DEFAULT_LEFT) - default), edge, swap=True)


def _rewritten(
    forest: Forest, features: Sequence[Feature], pipeline: Pipeline, folded: Mapping[int, Folded]
) -> Forest:
    rule, threshold = forest.rule.copy(), forest.threshold.copy()
    left, right = forest.left.copy(), forest.right.copy()
    feature, category_set = forest.feature.copy(), np.full_like(forest.category_set, -1)
    sets: dict[bytes, int] = {}
    for node, test in folded.items():
        feature[node] = pipeline.sources[forest.feature[node]]
        rule[node], threshold[node] = test.rule, test.threshold
        if test.swap:
            left[node], right[node] = right[node], left[node]
        if test.codes is not None:
            category_set[node] = sets.setdefault(_words(test.codes).tobytes(), len(sets))
    words = [np.frombuffer(word, np.uint32) for word in sets]
    return replace(
        forest,
        feature=feature, rule=rule, threshold=threshold, left=left, right=right, category_set=category_set,
        set_start=np.cumsum([0, *map(len, words)], dtype=np.int64),
        set_words=np.concatenate(words) if words else np.zeros(0, np.uint32),
        n_features=len(features), flush_tiny=False,
    )  # fmt: skip


def _words(codes: NDArray[np.bool_]) -> NDArray[np.uint32]:
    padded = np.append(codes, np.zeros(-len(codes) % 32, np.bool_))
    return np.packbits(padded, bitorder="little").view(np.uint32)
