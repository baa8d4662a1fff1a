"""The routes of batch jobs, for the OpenAPI document and the page; their schemas come from the structs."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.jobs.job import Job, JobId, JobRequest, Status
from engine.realtime.doors.examples import curl_command

Object = dict[str, Any]
EXAMPLE: Object = {
    "bundle": "/models/fraud",
    "inputs": ["/data/payments/*.parquet"],
    "output": "/data/scores",
    "settings": {"keep": ["id"]},
    "job": "nightly",
}
"""A body of ``POST /v1/jobs``."""
ERRORS = {
    400: "The body is no job; the sentence names the place.",
    404: "No such job.",
    409: "Not in the job's state, which the sentence names; or the id is another request's.",
    413: "The body is over the limit.",
    429: "As many jobs wait as may (jobs.max_queued).",
    500: "The list of jobs, or what lies at the output, cannot be read or written.",
}
STRUCTS = (JobRequest, Job, Status)
_REF = "#/components/schemas/{name}"
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class JobRoute:
    """One route.

    Attributes:
        method, path: As the job service knows them.
        about: What it does, in a sentence.
        answer: The type of the answer, ``str`` for plain text.
        errors: Statuses of its refusals, each with ``{"error": sentence}``.
        status: That of the answer.
        body: The type of the body, if it takes one.
    """

    method: str
    path: str
    about: str
    answer: Any
    errors: tuple[int, ...]
    status: int = 200
    body: Any = None

    def command(self, server: str) -> str:
        """A command for a shell; ``server`` is the service's URL."""
        url = server + self.path.replace("{job}", EXAMPLE["job"])
        if self.body is not None:
            return curl_command(url, EXAMPLE)
        return f'curl -s -X POST "{url}"' if self.method == "POST" else f'curl -s "{url}"'


JOB_ROUTES = (
    JobRoute(
        "POST", "/v1/jobs",
        "Submit a job; an equal one is the same job until it is done, with an id of your own for good.",
        Job, (400, 409, 413, 429, 500), status=201, body=JobRequest,
    ),
    JobRoute("GET", "/v1/jobs", "All jobs, the newest first.", list[Job], (500,)),
    JobRoute("GET", "/v1/jobs/{job}", "A job and how far it is.", Status, (404, 500)),
    JobRoute("GET", "/v1/jobs/{job}/logs", "What a job's process wrote; of much, the end.", str, (404, 500)),
    JobRoute(
        "POST", "/v1/jobs/{job}/cancel", "Stop a job; nothing of it becomes visible, and it can be resumed.",
        Job, (404, 409, 500),
    ),
    JobRoute("POST", "/v1/jobs/{job}/resume", "Go on with a failed or cancelled job.", Job, (404, 409, 500)),
)  # fmt: skip


def job_paths(host: str, port: int) -> Object:
    """The paths of an engine that takes jobs at ``port``; they name that server, not the document's."""
    server = {
        "url": f"http://{{host}}:{port}",
        "description": "The machine that `tandem serve` was started on.",
        "variables": {"host": {"default": host}},
    }
    paths: Object = {}
    for route in JOB_ROUTES:
        path = paths.setdefault(route.path, {"servers": [server]})
        if "{job}" in route.path:
            schema = msgspec.json.schema(JobId)
            path["parameters"] = [{"name": "job", "in": "path", "required": True, "schema": schema}]
        path[route.method.lower()] = _operation(route, f"http://{host}:{port}")
    return paths


def job_schemas() -> Object:
    """The schemas that ``job_paths`` refers to, by name."""
    _, schemas = msgspec.json.schema_components(STRUCTS, ref_template=_REF)
    return {name: _annotated(schema) for name, schema in schemas.items()}


def _operation(route: JobRoute, server: str) -> Object:
    media = "text/plain" if route.answer is str else "application/json"
    done = {"description": "Done.", "content": {media: {"schema": _schema(route.answer)}}}
    error = {"application/json": {"schema": {"$ref": _REF.format(name="Error")}}}
    errors = {str(status): {"description": ERRORS[status], "content": error} for status in route.errors}
    body = {"application/json": {"schema": _schema(route.body), "example": EXAMPLE}}
    return {
        "summary": route.about,
        "description": f"```sh\n{route.command(server)}\n```",
        **({"requestBody": {"required": True, "content": body}} if route.body is not None else {}),
        "responses": {str(route.status): done} | errors,
    }


def _schema(kind: Any) -> Object:
    (schema,), _ = msgspec.json.schema_components((kind,), ref_template=_REF)
    return schema


def _annotated(schema: Mapping[str, Any]) -> Object:
    """The schema of a struct, each property with its sentence of the docstring."""
    summary, _, attributes = inspect.cleandoc(schema["description"]).partition("Attributes:\n")
    sentences = {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(attributes)}
    properties = {
        name: {**of_property, "description": sentences[name]}
        for name, of_property in schema["properties"].items()
    }
    return {**schema, "description": summary.strip(), "properties": properties}
