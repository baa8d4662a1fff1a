"""Tree ensembles behind transforms, of a scikit-learn pipeline or a features file: folded into the splits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engine.bundle import npz
from engine.errors import InvalidModel, UnsupportedModel
from engine.folding import declared
from engine.folding.forest import fold
from engine.folding.sklearn_pipeline import pipeline_of, raw_features
from engine.folding.splits import Pipeline
from engine.importers.imported import FOREST, Imported
from engine.schema import Feature

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
        UnsupportedModel: A step cannot be folded, or the model behind them is no tree ensemble.
    """
    if not hasattr(model, "n_features_in_"):
        raise InvalidModel("expected a fitted Pipeline; call fit first")
    source, imported = import_model(model.steps[-1][1])
    if len(model.steps) == 1:
        return source, imported
    if imported.kind != "forest":
        raise UnsupportedModel(
            f"a Pipeline is folded into tree ensembles only, not into {imported.objective or imported.kind};"
            " convert it with skl2onnx and pack the ONNX graph"
        )
    transformer = model[:-1]
    steps = " → ".join(type(step).__name__ for _, step in model.steps[:-1])
    return source, replace(
        imported,
        features=raw_features(transformer),
        block="float64",
        fold=_folding(imported, pipeline_of(transformer, np.dtype(imported.block))),
        notes=(
            *imported.notes,
            f"{steps} is folded into the splits; the data to score is what goes into it.",
        ),
    )


def transformed(imported: Imported, transforms: Mapping[str, declared.Transform]) -> Imported:
    """A model behind the transforms of a features file; raises ``UnsupportedModel`` or ``InvalidConfig``."""
    if not transforms:
        return imported
    if imported.kind != "forest" or imported.fold is not None:
        raise UnsupportedModel("the transforms of a features file are folded into plain tree ensembles only")
    raw, sources = declared.raw_features(imported.features, transforms)
    pipeline = declared.pipeline_of(imported.features, transforms, raw, sources, np.dtype(imported.block))
    note = f"{len(transforms)} columns are transforms folded into the splits."
    return replace(
        imported,
        features=raw,
        block="float64",
        fold=_folding(imported, pipeline),
        notes=(*imported.notes, note),
    )


def _folding(imported: Imported, pipeline: Pipeline) -> Callable[[Sequence[Feature]], Mapping[str, bytes]]:
    def files(features: Sequence[Feature]) -> Mapping[str, bytes]:
        folded = fold(imported.forest(), features, pipeline)
        return {**imported.files, FOREST: npz(folded.arrays())}

    return files
