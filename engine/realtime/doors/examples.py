"""Requests to a model that work: one row of plausible values, for documents and pages."""

from typing import Any

from engine.realtime.serving.served import Revision
from engine.schema import Feature


def rows_example(revision: Revision) -> dict[str, Any]:
    """A body of ``POST /v1/models/{model}/score``."""
    return {"rows": [{feature.name: example_value(feature) for feature in revision.schema.features}]}


def tensors_example(revision: Revision) -> dict[str, Any]:
    """A body of ``POST /v2/models/{model}/infer``: one tensor per feature."""
    inputs = [
        {
            "name": feature.name,
            "shape": [1],
            "datatype": revision.datatypes[feature.name],
            "data": [example_value(feature)],
        }
        for feature in revision.schema.features
    ]
    return {"id": "42", "inputs": inputs}


def example_value(feature: Feature) -> object:
    """A value that a feature takes."""
    if feature.type == "category":
        return feature.categories[0] if feature.categories else None
    return {"bool": True, "float32": 0.5, "float64": 0.5}.get(feature.type, 1)
