import re
import subprocess

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import validate

from engine.realtime.doors.routing import MODEL_ROUTES, SERVER_ROUTES
from tests.engine.realtime.running import Engine


def test_the_document_is_valid_and_names_every_route(engine: Engine) -> None:
    document = engine.ask("GET", "/v2/openapi.json").json
    validate(document)
    routes = {path for path in SERVER_ROUTES if path != "/v2/"}
    for api, action in MODEL_ROUTES:
        routes.add(f"/{api}/models/{{model}}/{action}".rstrip("/"))
    assert routes <= set(document["paths"])


def test_the_page_has_a_command_for_each_model_that_works(engine: Engine) -> None:
    reply = engine.ask("GET", "/v2/docs")
    assert reply.headers["content-type"].startswith("text/html")
    text = reply.body.decode().replace("&quot;", '"')
    commands = re.findall(r"<pre>(curl .*)</pre>", text)
    assert len(commands) == 2
    for command in commands:
        script = f"URL=http://127.0.0.1:{engine.port}; {command} -s"
        answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
        assert '"scores":[' in answer


OPERATIONS = ("GET /v2/models/{model}", "POST /v2/models/{model}/infer", "POST /v1/models/{model}/score")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_whatever_is_sent_is_answered_as_the_document_says(engine: Engine, operation: str) -> None:
    method, path = operation.split()
    document = schemathesis.openapi.from_url(f"http://127.0.0.1:{engine.port}/v2/openapi.json")
    checks = schemathesis.checks

    @given(document[path][method].as_strategy())
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def send(case: schemathesis.Case) -> None:
        case.call_and_validate(
            checks=[
                checks.not_a_server_error,
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
            ]
        )

    send()
