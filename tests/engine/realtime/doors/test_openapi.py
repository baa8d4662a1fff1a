import html
import re
import subprocess
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import validate
from schemathesis.generation import GenerationMode

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
    listed = {
        (path, method.upper())
        for path, operations in document["paths"].items()
        for method in operations
        if method != "parameters"
    }
    assert listed == set(ROUTES.items())


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


def did_not_fail(_: object, response: Any, __: object) -> None:
    """504 is an answer to a deadline of a nanosecond."""
    assert response.status_code < 500 or response.status_code == 504


def send_whatever(engine: Engine, path: str, mode: GenerationMode, n_examples: int) -> None:
    """Requests drawn from the document, or against it, each answered as the document says."""
    document = schemathesis.openapi.from_url(f"http://127.0.0.1:{engine.port}/v2/openapi.json")
    checks: Any = schemathesis.checks

    @given(document[path][ROUTES[path]].as_strategy(generation_mode=mode))
    @settings(max_examples=n_examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def send(case: schemathesis.Case) -> None:
        case.call_and_validate(
            checks=[
                did_not_fail,
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
            ]
        )

    send()


@pytest.mark.parametrize("path", ROUTES)
def test_whatever_the_document_allows_is_answered_as_it_says(engine: Engine, path: str) -> None:
    send_whatever(engine, path, GenerationMode.POSITIVE, 6 if ROUTES[path] == "POST" else 2)


@pytest.mark.parametrize("path", [path for path, method in ROUTES.items() if method == "POST"])
def test_whatever_it_forbids_is_answered_as_it_says(engine: Engine, path: str) -> None:
    send_whatever(engine, path, GenerationMode.NEGATIVE, 8)
