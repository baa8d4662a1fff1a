"""The schemas of the OpenAPI document: what goes in and what comes out of each route."""

from typing import Any

from engine.realtime.doors.tensors import DATATYPES

Object = dict[str, Any]


def _object(required: str, **properties: object) -> Object:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _array(items: Object, **more: object) -> Object:
    return {"type": "array", "items": items, **more}


_TEXT: Object = {"type": "string"}
_WHOLE: Object = {"type": "integer", "minimum": 0}
_TRUTH: Object = {"type": "boolean"}
_SHAPE = _array({"type": "integer", "minimum": -1})
_PARAMETERS: Object = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_GIVEN: Object = {**_PARAMETERS, "type": ["object", "null"]}
_TENSOR_PARTS: Object = {
    "name": _TEXT,
    "datatype": {"enum": list(DATATYPES)},
    "shape": _array({**_WHOLE, "maximum": (1 << 63) - 1}, maxItems=16),
    "parameters": _PARAMETERS,
    "data": {"type": "array"},
}
_TENSORS = _array(_object("name shape datatype", **_TENSOR_PARTS))
_GIVEN_PARTS: Object = {**_TENSOR_PARTS, "parameters": _GIVEN, "data": {"type": ["array", "null"]}}
_GIVEN_TENSORS = _array(_object("name shape datatype", **_GIVEN_PARTS))
_METADATA = _array(_object("name datatype shape", name=_TEXT, datatype=_TEXT, shape=_SHAPE))
_CONFIG = _array(_object("name data_type dims", name=_TEXT, data_type=_TEXT, dims=_SHAPE))
_WANTED: Object = {
    "type": ["array", "null"],
    "items": _object("name", name=_TEXT, parameters=_GIVEN),
}
_DURATION = _object("count ns", count=_WHOLE, ns=_WHOLE)
_DURATIONS = "success fail queue compute_input compute_infer compute_output cache_hit cache_miss"
_MODEL_STATISTICS = _object(
    "name version last_inference inference_count execution_count inference_stats batch_stats memory_usage",
    name=_TEXT,
    version=_TEXT,
    last_inference={**_WHOLE, "description": "Milliseconds since 1970, to the second; 0 for never."},
    inference_count={**_WHOLE, "description": "Rows scored, whatever revision scored them."},
    execution_count={**_WHOLE, "description": "Batches scored."},
    inference_stats=_object(_DURATIONS, **dict.fromkeys(_DURATIONS.split(), _DURATION)),
    batch_stats={"type": "array", "description": "Empty: /metrics has the histogram of batch sizes."},
    memory_usage={"type": "array", "description": "Empty."},
)

SCHEMAS: Object = {
    "Error": _object("error", error=_TEXT),
    "Health": _object("", live=_TRUTH, ready=_TRUTH),
    "ServerMetadata": _object("name version extensions", name=_TEXT, version=_TEXT, extensions=_array(_TEXT)),
    "ModelReady": _object("name ready", name=_TEXT, ready=_TRUTH),
    "ModelMetadata": _object(
        "name versions platform inputs outputs",
        name=_TEXT,
        versions=_array(_TEXT),
        platform=_TEXT,
        inputs=_METADATA,
        outputs=_METADATA,
    ),
    "ModelConfig": _object(
        "name platform backend max_batch_size input output",
        name=_TEXT,
        platform=_TEXT,
        backend=_TEXT,
        version_policy={"type": "object"},
        max_batch_size=_WHOLE,
        input=_CONFIG,
        output=_CONFIG,
        parameters={"type": "object"},
    ),
    "Statistics": _object("model_stats", model_stats=_array(_MODEL_STATISTICS)),
    "IndexRequest": _object("", ready={"type": ["boolean", "null"]}),
    "LoadRequest": _object("", parameters={"type": ["object", "null"]}),
    "RepositoryIndex": _array(
        _object("name version state reason", name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)
    ),
    "Rows": _object("rows", rows=_array({"type": "object"})),
    "Scores": _object(
        "model revision scores",
        model=_TEXT,
        revision=_TEXT,
        labels=_array(_TEXT),
        scores=_array({"type": ["number", "null", "array"]}),
        errors=_array(_object("row error", row=_WHOLE, error=_TEXT)),
    ),
    "InferRequest": _object(
        "inputs", id={"type": ["string", "null"]}, parameters=_GIVEN, inputs=_GIVEN_TENSORS, outputs=_WANTED
    ),
    "InferResponse": _object(
        "model_name outputs",
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        parameters=_PARAMETERS,
        outputs=_TENSORS,
    ),
}
"""By name, as ``#/components/schemas/`` refers to them."""
