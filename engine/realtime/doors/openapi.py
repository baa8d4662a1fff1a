"""The OpenAPI document of the routes, with a working example for each model."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.realtime.doors.examples import rows_example, tensors_example
from engine.realtime.doors.openapi_jobs import job_paths, job_schemas
from engine.realtime.doors.openapi_schemas import SCHEMAS
from engine.realtime.serving.served import Revision

Object = dict[str, Any]
JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
OCTETS = "application/octet-stream"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "A revision: its digest, or the first twelve digits of it or more.",
    "schema": {"type": "string", "pattern": "^[^/]+$"},
}
_TIMEOUT = {
    "name": "Tandem-Timeout-S",
    "in": "header",
    "description": "Seconds after which the answer is worth nothing; the model's promise if absent.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e6},
}
_ENCODING = {
    "name": "Content-Encoding",
    "in": "header",
    "description": "The body is compressed; Accept-Encoding asks for an answer that is.",
    "schema": {"enum": ["gzip", "deflate", "identity"]},
}
ERRORS = {
    "400": "The request cannot be read, or does not fit the model; the sentence names the place.",
    "403": "Not allowed here; the sentence says what would allow it.",
    "404": "No such model, version or path.",
    "405": "The path exists, but not with this method.",
    "408": "The body did not arrive in time.",
    "409": "Another reload is under way.",
    "413": "The body, or its rows, are over the limit.",
    "415": "A media type or encoding not spoken here.",
    "429": "It would be answered too late; Retry-After says when to come back.",
    "500": "A model or the engine failed.",
    "503": "The replica is ending.",
    "504": "The deadline passed while the request waited.",
}


def document(revisions: Sequence[Revision], jobs: tuple[str, int] | None = None) -> Object:
    """The OpenAPI 3.1 document of an engine that serves these models, and takes jobs at a host and port."""
    paths = _server_paths() | _model_paths(revisions) | _repository_paths(revisions)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tandem",
            "version": importlib.metadata.version("tandem-scoring"),
            "description": "Open Inference Protocol v2, and rows as JSON or Arrow.",
        },
        "paths": paths | (job_paths(*jobs) if jobs else {}),
        "components": {"schemas": SCHEMAS | (job_schemas() if jobs else {})},
    }


def _server_paths() -> Object:
    text = {"type": "string"}
    index = _operation("The models.", _json("RepositoryIndex"))
    index |= {"requestBody": _body({JSON: {"schema": _ref("IndexRequest"), "example": {}}}, required=False)}
    return {
        "/v2/health/live": _get("Whether the process answers.", _json("Health")),
        "/v2/health/ready": _get("Whether it takes requests.", _json("Health")),
        "/v2": _get("Name, version and extensions.", _json("ServerMetadata")),
        "/v2/models/stats": _get("What each model has counted on this node.", _json("Statistics")),
        "/v2/repository/index": {"post": index},
        "/metrics": _get("Prometheus metrics of the node.", {"text/plain": {"schema": text}}),
        "/v2/openapi.json": _get("This document.", {JSON: {"schema": {"type": "object"}}}),
        "/v2/docs": _get("The page for people.", {"text/html": {"schema": text}}),
    }


def _model_paths(revisions: Sequence[Revision]) -> Object:
    model = _model(revisions)
    infer = _operation("Scores of tensors.", _json("InferResponse") | {OCTETS: _BINARY})
    infer |= {"requestBody": _body({JSON: _with_examples("InferRequest", tensors_example, revisions)})}
    score = _operation("Scores of rows.", _json("Scores") | {ARROW: _BINARY})
    rows = {
        JSON: _with_examples("Rows", lambda revision: rows_example(revision.schema), revisions),
        ARROW: _BINARY,
    }
    score |= {"requestBody": _body(rows)}
    paths: Object = {}
    for place, parameters in (("", [model]), ("/versions/{version}", [model, _VERSION])):
        below = f"/v2/models/{{model}}{place}"
        get = {
            "": _get("Inputs and outputs.", _json("ModelMetadata")),
            "/ready": _get("Whether the model is ready.", _json("ModelReady")),
            "/config": _get("Inputs and outputs in Triton's words.", _json("ModelConfig")),
            "/stats": _get("What the model has counted on this node.", _json("Statistics")),
        }
        paths |= {below + part: {"parameters": parameters, **operation} for part, operation in get.items()}
        paths[f"{below}/infer"] = {"parameters": [*parameters, _TIMEOUT, _ENCODING], "post": infer}
    paths["/v1/models/{model}/score"] = {"parameters": [model, _TIMEOUT, _ENCODING], "post": score}
    return paths


def _repository_paths(revisions: Sequence[Revision]) -> Object:
    text = {
        "load": "Load the model's bundle again from the path in the config, beside the one that serves, and"
        " swap them. Parameters (config, file:…) are refused. Only with serve.repository_api: true.",
        "unload": "Refused: what is served is what the config names.",
    }
    request = _body({JSON: {"schema": _ref("LoadRequest"), "example": {}}}, required=False)
    return {
        f"/v2/repository/models/{{model}}/{verb}": {
            "parameters": [_model(revisions)],
            "post": {**_operation(summary, {}), "requestBody": request},
        }
        for verb, summary in text.items()
    }


def _model(revisions: Sequence[Revision]) -> Object:
    names = [revision.name for revision in revisions]
    schema = {"type": "string", "enum": names} if names else {"type": "string", "pattern": "^[^/]+$"}
    return {"name": "model", "in": "path", "required": True, "schema": schema}


def _with_examples(
    schema: str, example: Callable[[Revision], Object], revisions: Sequence[Revision]
) -> Object:
    examples = {revision.name: {"value": example(revision)} for revision in revisions}
    return {"schema": _ref(schema), "examples": examples}


def _get(summary: str, content: Mapping[str, Object]) -> Object:
    return {"get": _operation(summary, content)}


def _operation(summary: str, content: Mapping[str, Object]) -> Object:
    done = {"description": "Done.", **({"content": content} if content else {})}
    errors = {status: {"description": text, "content": _json("Error")} for status, text in ERRORS.items()}
    return {"summary": summary, "responses": {"200": done} | errors}


def _body(content: Mapping[str, Object], *, required: bool = True) -> Object:
    return {"required": required, "content": content}


def _json(name: str) -> Object:
    return {JSON: {"schema": _ref(name)}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
