"""The page that people read: what is served here, and commands that can be pasted."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from engine.realtime.doors.examples import curl_command, rows_example, tensors_example
from engine.realtime.doors.openapi_jobs import ERRORS, JOB_ROUTES, job_schemas
from engine.realtime.serving.served import Revision
from engine.schema import Feature

SHOWN_CATEGORIES = 5


def page(revisions: Sequence[Revision], may_load: bool, jobs_port: int | None = None) -> bytes:
    """The page of an engine that serves these models.

    Args:
        revisions: The models.
        may_load: Whether it loads them again by request.
        jobs_port: Where it takes batch jobs, if it does.
    """
    from engine.pages.rendering import rendered  # Jinja, which no other answer needs

    models = [_shown(revision) for revision in revisions]
    jobs = None if jobs_port is None else _jobs(jobs_port)
    values = {"title": "Tandem: how to ask", "models": models, "may_load": may_load, "jobs": jobs}
    return rendered("engine.realtime.doors", "docs.html", values).encode()


def _shown(revision: Revision) -> dict[str, object]:
    features = [
        {
            "name": feature.name,
            "type": feature.type,
            "tensor": revision.datatypes[feature.name],
            "required": feature.required,
            "values": _values(feature),
        }
        for feature in revision.schema.features
    ]
    return {
        "name": revision.name,
        "revision": revision.id,
        "features": features,
        "has_values": any(feature["values"] for feature in features),
        "output": revision.output.name,
        "output_type": revision.output_datatype,
        "labels": revision.output.labels,
        "score": curl_command(f"$URL/v1/models/{revision.name}/score", rows_example(revision.schema)),
        "infer": curl_command(f"$URL/v2/models/{revision.name}/infer", tensors_example(revision)),
    }


def _values(feature: Feature) -> str:
    if feature.type != "category":
        return ""
    n_more = len(feature.categories) - SHOWN_CATEGORIES
    shown = ", ".join(str(category) for category in feature.categories[:SHOWN_CATEGORIES])
    more = f" and {n_more} more" if n_more > 0 else ""
    unseen = {"missing": "missing", "bad": "refused", "other": "a code of its own"}[feature.unseen]
    return f"{shown}{more}; any other is {unseen}"


def _jobs(port: int) -> dict[str, object]:
    routes = [
        {
            "method": route.method,
            "path": route.path,
            "about": route.about,
            "command": route.command("$JOBS"),
            "status": route.status,
            "answer": _answered(route.answer),
            "errors": route.errors,
        }
        for route in JOB_ROUTES
    ]
    structs = {
        name: _fields(schema, is_answer=name in ("Job", "Status")) for name, schema in job_schemas().items()
    }
    return {"port": port, "routes": routes, "errors": ERRORS, "structs": structs}


def _answered(kind: Any) -> str:
    if kind is str:
        return "text"
    return f"a list of {get_args(kind)[0].__name__}" if get_args(kind) else f"a {kind.__name__}"


def _fields(schema: Mapping[str, Any], *, is_answer: bool) -> list[dict[str, str]]:
    """The rows of a struct's table."""
    return [
        {
            "name": name,
            "type": _type(field),
            "default": "" if is_answer else _default(field),  # nothing is left out of an answer
            "about": field["description"],
        }
        for name, field in schema["properties"].items()
    ]


def _default(field: Mapping[str, Any]) -> str:
    is_told = "default" in field and "$ref" not in field  # another struct's table has its defaults
    return json.dumps(field["default"]) if is_told else ""


def _type(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "enum" in field:
        return " or ".join(json.dumps(value) for value in field["enum"])
    return f"array of {_type(field['items'])}" if field["type"] == "array" else str(field["type"])
