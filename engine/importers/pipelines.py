"""Models behind transforms, of a scikit-learn pipeline or a features file: the transforms are folded in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engine.bundle import npz
from engine.errors import InvalidModel, UnsupportedModel
from engine.folding import declared
from engine.folding.forest import fold
from engine.folding.sklearn_columns import not_of_one_feature
from engine.folding.sklearn_pipeline import (
    pipeline_of,
    raw_features,
    taking_any_number,
    without_dropped,
)
from engine.folding.splits import Pipeline
from engine.folding.terms import terms_of
from engine.importers.imported import DENSE, FOREST, LINEAR, Imported
from engine.schema import Feature
from kernels.dense.layers import Layers
from kernels.linear.terms import Terms

Import = Callable[[Any], tuple[bytes, Imported]]


def is_pipeline(model: object) -> bool:
    """Whether the model is a scikit-learn ``Pipeline``."""
    kind = type(model)
    return kind.__name__ == "Pipeline" and kind.__module__.startswith("sklearn.")


def import_pipeline(model: Any, import_model: Import) -> tuple[bytes, Imported]:
    """Read a fitted pipeline.

    Args:
        model: The ``Pipeline``.
        import_model: Reads its last step.

    Raises:
        InvalidModel: It is not fitted.
        UnsupportedModel: A step cannot be folded, or not into the model behind it.
    """
    model = _flat(model)
    if not hasattr(model, "n_features_in_"):
        if hasattr(model.steps[-1][1], "n_features_in_"):  # fitted, but the first step takes no table
            raise not_of_one_feature(type(model.steps[0][1]).__name__)
        raise InvalidModel("expected a fitted Pipeline; call fit first")
    source, imported = import_model(model.steps[-1][1])
    if len(model.steps) == 1:
        return source, imported
    if imported.kind not in FOLDED:
        raise UnsupportedModel(
            f"a Pipeline cannot be folded into {imported.objective or 'a model'} of kind {imported.kind};"
            " convert it with skl2onnx and pack the ONNX graph"
        )
    transformer = taking_any_number(model[:-1])
    absent = np.nan if imported.library == "xgboost" else 0.0
    features = raw_features(transformer, finite=any(feature.required for feature in imported.features))
    pipeline = pipeline_of(transformer, features, np.dtype(imported.block), absent)
    features, pipeline = without_dropped(transformer, features, pipeline)
    steps = " → ".join(type(step).__name__ for _, step in model.steps[:-1])
    folded, _ = FOLDED[imported.kind]
    return source, replace(
        imported,
        features=features,
        block="float64",
        fold=_folding(imported, pipeline),
        notes=(
            *imported.notes,
            f"{steps} is folded into the {folded}; the data to score is what goes into it.",
        ),
    )


def _flat(model: Any) -> Any:
    """The pipeline without steps that do nothing, and with the steps of one that is its last step."""
    return type(model)([(str(number), step) for number, step in enumerate(_steps(model))])


def _steps(model: Any) -> Iterator[Any]:
    *transformers, last = [step for _, step in model.steps]
    yield from (step for step in transformers if step is not None and step != "passthrough")
    if is_pipeline(last):
        yield from _steps(last)
    else:
        yield last


def transformed(imported: Imported, transforms: Mapping[str, declared.Transform]) -> Imported:
    """A model behind the transforms of a features file; raises ``UnsupportedModel`` or ``InvalidConfig``."""
    if not transforms:
        return imported
    if imported.kind not in FOLDED or imported.fold is not None:
        raise UnsupportedModel(
            "the transforms of a features file are folded into plain tree ensembles, linear models and small"
            " networks only"
        )
    raw, sources = declared.raw_features(imported.features, transforms)
    pipeline = declared.pipeline_of(imported.features, transforms, raw, sources, np.dtype(imported.block))
    note = f"{len(transforms)} columns are transforms folded into the {FOLDED[imported.kind][0]}."
    return replace(
        imported,
        features=raw,
        block="float64",
        fold=_folding(imported, pipeline),
        notes=(*imported.notes, note),
    )


def _folding(imported: Imported, pipeline: Pipeline) -> Callable[[Sequence[Feature]], Mapping[str, bytes]]:
    def files(features: Sequence[Feature]) -> Mapping[str, bytes]:
        return {**imported.files, **FOLDED[imported.kind][1](imported, features, pipeline)}

    return files


def _forest(imported: Imported, features: Sequence[Feature], pipeline: Pipeline) -> Mapping[str, bytes]:
    return {FOREST: npz(fold(imported.forest(), features, pipeline).arrays())}


def _linear(imported: Imported, features: Sequence[Feature], pipeline: Pipeline) -> Mapping[str, bytes]:
    plain = imported.arrays(LINEAR)
    return {LINEAR: npz(terms_of(plain["coef"], plain["intercept"], features, pipeline).arrays())}


def _dense(imported: Imported, features: Sequence[Feature], pipeline: Pipeline) -> Mapping[str, bytes]:
    arrays = imported.arrays(DENSE)
    plain = Layers.of_arrays(Terms.of_arrays(arrays), arrays)
    first = terms_of(plain.first.coef, plain.first.intercept, features, pipeline)
    return {DENSE: npz(replace(plain, first=first).arrays())}


FOLDED: Mapping[str, tuple[str, Callable[[Imported, Sequence[Feature], Pipeline], Mapping[str, bytes]]]] = {
    "forest": ("splits", _forest),
    "linear": ("weights", _linear),
    "dense": ("first layer", _dense),
}
"""What a pipeline is folded into, and how, by kind of model."""
