import asyncio
import html
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import validate
from schemathesis.generation import GenerationMode

from engine.config import Jobs
from engine.jobs.controller import Controller
from engine.jobs.job import JobRequest
from engine.jobs.routes import JobRoutes
from engine.jobs.service import job_service
from engine.realtime.doors.openapi_jobs import EXAMPLE, JOB_ROUTES, JobRoute
from engine.realtime.doors.routing import MODEL_ROUTES, SERVER_ROUTES
from tests.engine.realtime.running import Engine

METHODS = {
    f"/{api}/models/{{model}}/{action}".rstrip("/"): method
    for (api, action), (method, _) in MODEL_ROUTES.items()
} | {path: method for path, (method, _) in SERVER_ROUTES.items() if path != "/v2/"}
VERSIONED = {
    path.replace("{model}", "{model}/versions/{version}"): method
    for path, method in METHODS.items()
    if path.startswith("/v2/models/{model}")
}
ROUTES = METHODS | VERSIONED
"""The method of every path there is."""
LOADING = [path for path in ROUTES if path.endswith("load")]


def test_the_document_is_valid_and_names_every_route_and_no_other(engine: Engine) -> None:
    document = engine.ask("GET", "/v2/openapi.json").json
    validate(document)
    assert listed(document) == set(ROUTES.items())


def listed(document: Any) -> set[tuple[str, str]]:
    return {
        (path, method.upper())
        for path, operations in document["paths"].items()
        for method in operations
        if method not in ("parameters", "servers")
    }


def test_each_example_of_the_document_is_answered(engine: Engine) -> None:
    document = engine.ask("GET", "/v2/openapi.json").json
    scored = 0
    for path in ("/v2/models/{model}/infer", "/v1/models/{model}/score"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for model, example in body["examples"].items():
            reply = engine.ask("POST", path.replace("{model}", model), example["value"])
            assert reply.status == 200, reply
            scored += 1
    assert scored == 4
    index = document["paths"]["/v2/repository/index"]["post"]["requestBody"]["content"]["application/json"]
    assert engine.ask("POST", "/v2/repository/index", index["example"]).status == 200


def test_the_page_has_commands_for_each_model_that_work(engine: Engine) -> None:
    reply = engine.ask("GET", "/v2/docs")
    assert reply.headers["content-type"].startswith("text/html")
    commands = re.findall(r"<code>(curl .*)</code>", reply.body.decode())
    assert len(commands) == 4
    for command in commands:
        script = f"URL=http://127.0.0.1:{engine.port}; {html.unescape(command)}"
        answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
        assert '"scores":[' in answer or '"outputs":[{"name":"score"' in answer


@pytest.mark.parametrize("path", [path for path in ROUTES if path not in LOADING])
def test_every_route_refuses_another_method(engine: Engine, path: str) -> None:
    wrong = "PUT" if ROUTES[path] == "GET" else "GET"
    filled = path.replace("{model}", "numeric").replace("{version}", "0" * 12)
    assert engine.ask(wrong, filled).status == 405


CHECKS: Any = schemathesis.checks
AS_IT_SAYS = (
    CHECKS.status_code_conformance,
    CHECKS.content_type_conformance,
    CHECKS.response_schema_conformance,
)


def did_not_fail(_: object, response: Any, __: object) -> None:
    """504 is an answer to a deadline of a nanosecond."""
    assert response.status_code < 500 or response.status_code == 504


def send_whatever(
    engine: Engine, path: str, method: str, mode: GenerationMode, n_examples: int, base_url: str | None = None
) -> None:
    """Requests drawn from the document, or against it, each answered as the document says."""
    document = schemathesis.openapi.from_url(f"http://127.0.0.1:{engine.port}/v2/openapi.json")

    @given(document[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=n_examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def send(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=base_url, checks=[did_not_fail, *AS_IT_SAYS])

    send()


@pytest.mark.parametrize("path", ROUTES)
def test_whatever_the_document_allows_is_answered_as_it_says(engine: Engine, path: str) -> None:
    send_whatever(engine, path, ROUTES[path], GenerationMode.POSITIVE, 6 if ROUTES[path] == "POST" else 2)


@pytest.mark.parametrize("path", [path for path, method in ROUTES.items() if method == "POST"])
def test_whatever_it_forbids_is_answered_as_it_says(engine: Engine, path: str) -> None:
    send_whatever(engine, path, "POST", GenerationMode.NEGATIVE, 8)


@pytest.fixture
def jobs(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """The address of a job service beside the engine that takes jobs and never starts one."""
    with job_service(Jobs(port=0, directory=str(tmp_path), max_running=0), "127.0.0.1", {}) as url:
        engine.app.jobs_port = int(url.rpartition(":")[2])
        yield url
        engine.app.jobs_port = None


def test_where_jobs_are_taken_the_document_names_their_routes_at_their_port(
    engine: Engine, jobs: str, tmp_path: Path
) -> None:
    document = engine.ask("GET", "/v2/openapi.json").json
    validate(document)
    controller = Controller(tmp_path / "other", max_running=0, max_queued=1, environment={})
    taken: list[Any] = list(JobRoutes(controller).app().routes)
    asyncio.run(controller.close())
    assert listed(document) - set(ROUTES.items()) == {
        (route.path, method) for route in taken for method in route.methods - {"HEAD"}
    }
    (server,) = document["paths"]["/v1/jobs"]["servers"]
    assert server["url"].format(host=server["variables"]["host"]["default"]) == jobs


def test_the_document_describes_each_option_of_a_job_as_its_struct_does(engine: Engine, jobs: str) -> None:
    schemas = engine.ask("GET", "/v2/openapi.json").json["components"]["schemas"]
    assert schemas["JobRequest"]["required"] == ["bundle", "inputs", "output"]
    assert schemas["Batch"]["properties"]["limit"] == {
        "type": "integer",
        "minimum": 0,
        "default": 0,
        "description": "Score only so many first rows of the input; 0 for all.",
    }
    assert msgspec.convert(EXAMPLE, JobRequest).id == "nightly"


def test_the_page_has_a_command_for_each_route_of_jobs_that_works(engine: Engine, jobs: str) -> None:
    page = engine.ask("GET", "/v2/docs").body.decode()
    commands = [html.unescape(found) for found in re.findall(r"<code>(curl .*JOBS.*)</code>", page)]
    for route, command in zip(JOB_ROUTES, commands, strict=True):
        script = f"JOBS={jobs}; {command} -w %{{stderr}}%{{http_code}}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert int(done.stderr) == route.status, done.stdout


def test_each_route_of_jobs_answers_a_job_as_the_document_says(engine: Engine, jobs: str) -> None:
    document = schemathesis.openapi.from_url(f"http://127.0.0.1:{engine.port}/v2/openapi.json")
    for route in JOB_ROUTES:
        path = {"job": EXAMPLE["job"]} if "{job}" in route.path else None
        body = {"body": EXAMPLE, "media_type": "application/json"} if route.body else {}
        case = document[route.path][route.method].Case(path_parameters=path, **body)
        answer = case.call_and_validate(base_url=jobs, checks=[*AS_IT_SAYS])
        assert answer.status_code == route.status


@pytest.mark.parametrize("route", JOB_ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_whatever_of_jobs_the_document_allows_is_answered_as_it_says(
    engine: Engine, jobs: str, route: JobRoute
) -> None:
    send_whatever(engine, route.path, route.method, GenerationMode.POSITIVE, 6, jobs)


@pytest.mark.parametrize(
    "route",
    [route for route in JOB_ROUTES if route.body or "{job}" in route.path],
    ids=lambda route: f"{route.method} {route.path}",
)
def test_whatever_of_jobs_it_forbids_is_answered_as_it_says(
    engine: Engine, jobs: str, route: JobRoute
) -> None:
    send_whatever(engine, route.path, route.method, GenerationMode.NEGATIVE, 6, jobs)
