"""Requests to a model that work: one row of plausible values, for documents and pages."""

import json
import shlex
from typing import TYPE_CHECKING, Any

from engine.schema import Feature, Schema

if TYPE_CHECKING:
    from engine.realtime.serving.served import Revision


def curl_command(url: str, body: object) -> str:
    """What a person pastes into a shell; ``$URL`` in the URL is the shell's."""
    return f'curl -s "{url}" -d {shlex.quote(json.dumps(body, ensure_ascii=False))}'


def rows_example(schema: Schema) -> dict[str, Any]:
    """A body of ``POST /v1/models/{model}/score``."""
    return {"rows": [{feature.name: example_value(feature) for feature in schema.features}]}


def tensors_example(revision: "Revision") -> dict[str, Any]:
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
        return feature.categories[0] if feature.categories else "any text"
    return {"bool": True, "float32": 0.5, "float64": 0.5}.get(feature.type, 1)
