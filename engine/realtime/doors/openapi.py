"""The OpenAPI document of the routes, and the page that people read."""

import html
import importlib.metadata
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from engine.realtime.doors.body import Message
from engine.realtime.doors.tensors import DATATYPES
from engine.realtime.serving.served import Revision
from engine.schema import Feature

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
OCTETS = "application/octet-stream"
_MODEL = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[^/]+$"}}
_VERSION = {**_MODEL, "name": "version"}
_TIMEOUT = {
    "name": "Tandem-Timeout-S",
    "in": "header",
    "description": "Seconds after which the answer is worth nothing; the model's promise if absent.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e6},
}
ERRORS = {
    "400": "The request cannot be read, or does not fit the model; the sentence names the place.",
    "404": "No such model, version or path.",
    "405": "The path exists, but not with this method.",
    "408": "The body did not arrive in time.",
    "413": "The body, or its rows, are over the limit.",
    "415": "A media type or encoding not spoken here.",
    "429": "It would be answered too late; Retry-After says when to come back.",
    "500": "A model or the engine failed.",
    "503": "The replica is ending.",
    "504": "The deadline passed while the request waited.",
}


def document(revisions: Sequence[Revision]) -> Message:
    """The OpenAPI 3.1 document of an engine that serves these models."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tandem",
            "version": importlib.metadata.version("tandem-scoring"),
            "description": "Open Inference Protocol v2, and rows as JSON or Arrow.",
        },
        "paths": _server_paths() | _model_paths([revision.name for revision in revisions]),
        "components": {"schemas": _schemas()},
    }


def _server_paths() -> dict[str, Any]:
    return {
        "/v2/health/live": _get("Whether the process answers."),
        "/v2/health/ready": _get("Whether it takes requests."),
        "/v2": _get("Name, version and extensions."),
        "/metrics": _get("Prometheus metrics of the node.", "text/plain", {"type": "string"}),
        "/v2/openapi.json": _get("This document."),
        "/v2/docs": _get("The page for people.", "text/html", {"type": "string"}),
        "/v2/repository/index": {
            "post": _operation("The models.", {"type": "array", "items": {"type": "object"}})
        },
    }


def _model_paths(names: list[str]) -> dict[str, Any]:
    model = {**_MODEL, "schema": {"enum": names} if names else _MODEL["schema"]}
    score = _operation("Scores of rows.", _ref("Scores"), ARROW)
    score |= {"requestBody": _body({JSON: _ref("Rows"), ARROW: {"type": "string", "format": "binary"}})}
    infer = _operation("Scores of tensors.", _ref("InferResponse"), OCTETS)
    infer |= {"requestBody": _body({JSON: _ref("InferRequest")})}
    paths = {}
    for place, parameters in (("", [model]), ("/versions/{version}", [model, _VERSION])):
        below = f"/v2/models/{{model}}{place}"
        paths[below] = {"parameters": parameters, **_get("Inputs and outputs.")}
        paths[f"{below}/ready"] = {"parameters": parameters, **_get("Whether the model is ready.")}
        paths[f"{below}/infer"] = {"parameters": [*parameters, _TIMEOUT], "post": infer}
    paths["/v1/models/{model}/score"] = {"parameters": [model, _TIMEOUT], "post": score}
    return paths


def _get(summary: str, media: str = JSON, schema: Message | None = None) -> dict[str, Any]:
    return {"get": _operation(summary, schema or {"type": "object"}, media=media)}


def _operation(summary: str, schema: Message, *others: str, media: str = JSON) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {media: {"schema": schema}, **dict.fromkeys(others, binary)}
    errors = {
        status: {"description": text, "content": {JSON: {"schema": _ref("Error")}}}
        for status, text in ERRORS.items()
    }
    return {"summary": summary, "responses": {"200": {"description": "Done.", "content": content}} | errors}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {media: {"schema": schema} for media, schema in content.items()}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: Sequence[str], **properties: object) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _array(items: Message, **more: object) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def _schemas() -> dict[str, Any]:
    text, whole = {"type": "string"}, {"type": "integer", "minimum": 0}
    parameters = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
    tensor = {
        "name": text,
        "datatype": {"enum": list(DATATYPES)},
        "shape": _array(whole, maxItems=16),
        "parameters": parameters,
        "data": {"type": "array"},
    }
    tensors = _array(_object(["name", "shape", "datatype"], **tensor))
    scores = {
        "model": text,
        "revision": text,
        "labels": _array(text),
        "scores": _array({"type": ["number", "null", "array"]}),
        "errors": _array(_object(["row", "error"], row=whole, error=text)),
    }
    request = {
        "id": {"type": ["string", "null"]},
        "parameters": parameters,
        "inputs": tensors,
        "outputs": {"type": ["array", "null"], "items": _object(["name"], name=text, parameters=parameters)},
    }
    response = {"model_name": text, "model_version": text, "id": text, "parameters": parameters}
    return {
        "Error": _object(["error"], error=text),
        "Rows": _object(["rows"], rows=_array({"type": "object"})),
        "Scores": _object(["model", "revision", "scores"], **scores),
        "InferRequest": _object(["inputs"], **request),
        "InferResponse": _object(["model_name", "outputs"], **response, outputs=tensors),
    }


def page(revisions: Sequence[Revision]) -> bytes:
    """The page for people: every route with a command that can be pasted."""
    template = files("engine.realtime.doors").joinpath("docs.html").read_text()
    models = "\n".join(_section(revision) for revision in revisions)
    return template.replace("<!-- models -->", models).encode()


def _section(revision: Revision) -> str:
    row = json.dumps({"rows": [{feature.name: _example(feature) for feature in revision.schema.features}]})
    rows = "\n".join(
        f"<tr><td><code>{html.escape(feature.name)}</code></td><td>{feature.type}</td>"
        f"<td>{revision.datatypes[feature.name]}</td><td>{_note(feature)}</td></tr>"
        for feature in revision.schema.features
    )
    name = html.escape(revision.name)
    quoted = html.escape(row.replace("'", "'\\''"))
    return (
        f"<h2>Model <code>{name}</code>, revision <code>{revision.id}</code></h2>\n"
        f"<pre>curl \"$URL/v1/models/{name}/score\" -d '{quoted}'</pre>\n"
        f"<table><tr><th>feature</th><th>type</th><th>datatype</th><th></th></tr>\n{rows}\n</table>"
    )


def _example(feature: Feature) -> object:
    if feature.type == "category":
        return feature.categories[0] if feature.categories else None
    return {"bool": True, "float32": 0.5, "float64": 0.5}.get(feature.type, 1)


def _note(feature: Feature) -> str:
    notes = ["required" if feature.required else "null if missing"]
    if feature.type == "category":
        shown = ", ".join(html.escape(str(category)) for category in feature.categories[:5])
        more = f" and {len(feature.categories) - 5} more" if len(feature.categories) > 5 else ""
        notes.append(f"{shown}{more}; unseen: {feature.unseen}")
    return "; ".join(notes)
