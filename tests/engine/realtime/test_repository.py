"""Statistics, configuration and the repository, as tritonclient asks for them over HTTP and gRPC."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.utils import InferenceServerException

from engine.config import Model, Serve, Slo
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.reloading import Loader
from tests.engine.realtime.running import MIXED, NUMERIC, Engine, Lane, bundle, start

ROWS = np.ones((2, 4), np.float32)
SETTINGS = Serve(port=0, slo=Slo(10_000), grpc_port=0, drain_s=5.0, repository_api=True)


class Repository:
    """Two models found by links, and the link of ``numeric``."""

    def __init__(self, folder: Path) -> None:
        self.link = folder / "numeric"
        self.link.symlink_to(bundle(folder, "numeric", NUMERIC))
        models = {"numeric": Model(str(self.link)), "mixed": Model(str(bundle(folder, "mixed", MIXED)))}
        self._folder = folder
        self._loader = Loader(models, lambda _: None)
        self._scorers = self._loader.load_all()

    def app(self, settings: Serve = SETTINGS) -> ScoringApp:
        app = ScoringApp(self._scorers, settings)
        app.reload = partial(self._loader.load_again, app)
        return app

    def point_to(self, path: Path | None = None, *, scale: float = 1.0) -> None:
        self.link.unlink()
        self.link.symlink_to(path or bundle(self._folder, "numeric", NUMERIC, scale=scale))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture
def served(repository: Repository) -> Iterator[Engine]:
    yield from start(repository.app, SETTINGS)


@pytest.fixture(params=[triton_http, triton_grpc], ids=["http", "grpc"])
def client(request: pytest.FixtureRequest, served: Engine) -> Iterator[Any]:
    with client_of(request.param, served) as client:
        yield client


def client_of(module: Any, engine: Engine) -> Any:
    assert engine.server.grpc is not None
    port = engine.port if module in (triton_http, triton_http_aio) else engine.server.grpc.port
    return module.InferenceServerClient(f"127.0.0.1:{port}")


def scores(client: Any, module: Any) -> list[float]:
    tensor = module.InferInput("rows", [2, 4], "FP32")
    tensor.set_data_from_numpy(ROWS)
    result: list[float] = client.infer("numeric", [tensor]).as_numpy("score").tolist()
    return result


def module_of(client: Any) -> Any:
    return triton_grpc if "grpc" in type(client).__module__ else triton_http


def as_dict(answer: Any) -> Any:
    from google.protobuf.json_format import MessageToDict

    if isinstance(answer, dict | list):
        return answer
    return MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def test_statistics_count_requests_rows_batches_and_their_time(client: Any) -> None:
    for _ in range(3):
        scores(client, module_of(client))
    with pytest.raises(InferenceServerException):
        client.infer("numeric", [module_of(client).InferInput("rows", [2, 4], "FP32")])
    (counted,) = as_dict(client.get_inference_statistics("numeric"))["model_stats"]
    assert (counted["name"], len(counted["version"])) == ("numeric", 12)
    assert int(counted["inference_count"]) == 6
    assert int(counted["execution_count"]) == 3
    assert int(counted["last_inference"]) > 1.7e12
    stages = counted["inference_stats"]
    assert int(stages["fail"]["count"]) == 1
    assert int(stages["fail"]["ns"]) > 0
    for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert int(stages[part]["count"]) == 3
    parts = [int(stages[part]["ns"]) for part in stages if part.startswith(("queue", "compute"))]
    assert 0 < sum(parts) <= int(stages["success"]["ns"])
    assert int(stages["cache_hit"]["count"]) == 0


def test_statistics_of_every_model_of_one_version_and_of_none(client: Any) -> None:
    every = as_dict(client.get_inference_statistics())["model_stats"]
    assert {model["name"] for model in every} == {"numeric", "mixed"}
    version = every[0]["version"]
    name = every[0]["name"]
    assert as_dict(client.get_inference_statistics(name, version))["model_stats"] == [every[0]]
    for model, version in (("nope", ""), (name, "1")):
        with pytest.raises(InferenceServerException, match=r"no (model|version)"):
            client.get_inference_statistics(model, version)


def test_the_configuration_has_the_tensors_of_the_metadata(client: Any) -> None:
    config = as_dict(client.get_model_config("mixed"))
    config = config.get("config", config)
    assert (config["name"], config["platform"], config["max_batch_size"]) == ("mixed", "tandem", 0)
    assert [(one["name"], one["data_type"]) for one in config["input"]] == [
        ("distance", "TYPE_FP64"),
        ("carrier", "TYPE_STRING"),
        ("stops", "TYPE_INT8"),
        ("night", "TYPE_BOOL"),
    ]
    assert [int(size) for size in config["output"][0]["dims"]] == [-1]
    assert len(config["parameters"]["revision"]["string_value"]) == 64


def test_a_model_is_loaded_again_from_its_path(client: Any, repository: Repository) -> None:
    module = module_of(client)
    assert scores(client, module) == [10.0, 10.0]
    repository.point_to(scale=2.0)
    client.load_model("numeric")
    assert scores(client, module) == [20.0, 20.0]


def test_a_load_request_may_have_no_parameters(served: Engine) -> None:
    load = "/v2/repository/models/numeric/load"
    assert [served.ask("POST", load, body).status for body in (b"", {}, {"parameters": None})] == [200] * 3


def test_loading_what_is_there_already_changes_nothing(client: Any) -> None:
    client.load_model("numeric")
    assert scores(client, module_of(client)) == [10.0, 10.0]


def test_a_bundle_that_cannot_be_loaded_leaves_the_one_before(
    client: Any, repository: Repository, tmp_path: Path
) -> None:
    repository.point_to(tmp_path / "nothing")
    with pytest.raises(InferenceServerException, match="nothing"):
        client.load_model("numeric")
    assert scores(client, module_of(client)) == [10.0, 10.0]


def test_nothing_of_a_bundle_is_taken_from_a_request(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="parameter 'config' is not taken"):
        client.load_model("numeric", config="{}")


def test_files_are_refused_by_name(served: Engine) -> None:
    body = {"parameters": {"file:1/model.onnx": "AAAA"}}
    reply = served.ask("POST", "/v2/repository/models/numeric/load", body)
    assert (reply.status, "'file:1/model.onnx'" in reply.json["error"]) == (400, True)


def test_unloading_is_refused_and_an_unknown_model_is_not_found(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="take it out of the config"):
        client.unload_model("numeric")
    for call in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="no model 'nope'"):
            call("nope")


@pytest.mark.parametrize("module", [triton_http, triton_grpc], ids=["http", "grpc"])
def test_loading_is_off_unless_it_is_allowed(repository: Repository, module: Any) -> None:
    settings = msgspec.structs.replace(SETTINGS, repository_api=False)
    with ExitStack() as stack:
        for engine in start(lambda: repository.app(settings), settings):
            client = stack.enter_context(client_of(module, engine))
            with pytest.raises(InferenceServerException, match="repository_api: true") as caught:
                client.load_model("numeric")
            assert caught.value.status() in ("403", "StatusCode.PERMISSION_DENIED")


@pytest.mark.parametrize("module", [triton_http_aio, triton_grpc_aio], ids=["http", "grpc"])
def test_the_aio_clients_ask_the_same(served: Engine, module: Any) -> None:
    async def scenario() -> None:
        async with client_of(module, served) as client:
            assert await client.is_server_live()
            assert await client.is_model_ready("mixed")
            statistics = as_dict(await client.get_inference_statistics())
            assert len(statistics["model_stats"]) == 2
            config = as_dict(await client.get_model_config("numeric"))
            assert config.get("config", config)["name"] == "numeric"
            index = as_dict(await client.get_model_repository_index())
            assert len(index["models"] if isinstance(index, dict) else index) == 2
            await client.load_model("numeric")
            with pytest.raises(InferenceServerException):
                await client.unload_model("numeric")

    asyncio.run(scenario())


@pytest.mark.parametrize("body", [None, b"", {}, {"ready": True}, {"ready": False}, {"ready": None}])
def test_the_index_has_every_model_for_all_are_ready(lane: Lane, body: Any) -> None:
    reply = lane.ask("POST", "/v2/repository/index", body)
    assert {(model["name"], model["state"]) for model in reply.json} == {
        ("mixed", "READY"),
        ("numeric", "READY"),
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/repository/index", {"ready": "yes"}),
        ("/v2/repository/index", {"redy": True}),
        ("/v2/repository/index", b"["),
        ("/v2/repository/models/numeric/load", {"parameters": []}),
        ("/v2/repository/models/numeric/load", b'{"parameters":{"x":' + b"[" * 90_000),
    ],
)
def test_a_request_of_the_repository_that_is_none_is_refused(lane: Lane, path: str, body: Any) -> None:
    reply = lane.ask("POST", path, body)
    assert (reply.status, list(reply.json)) == (400, ["error"])


def test_every_lane_shows_statistics_and_configuration(lane: Lane) -> None:
    (counted,) = lane.ask("GET", "/v2/models/numeric/stats").json["model_stats"]
    version = counted["version"]
    assert lane.ask("GET", f"/v2/models/numeric/versions/{version}/config").json["name"] == "numeric"
    assert len(lane.ask("GET", "/v2/models/stats").json["model_stats"]) == 2
    assert lane.ask("GET", "/v2/models/numeric/versions/1/stats").status == 404
