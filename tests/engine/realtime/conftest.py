"""Two small models and an engine that serves them."""

import gc
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from engine.config import Config, Model, Serve, Slo
from engine.realtime.replicas.cluster import RunningPool, running
from engine.realtime.serving.app import ScoringApp
from engine.scorer import Scorer
from tests.conftest import RAY
from tests.engine.realtime.running import MIXED, NUMERIC, Engine, Lane, bundle, start


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("bundles")
    return {"numeric": bundle(out, "numeric", NUMERIC), "mixed": bundle(out, "mixed", MIXED)}


@pytest.fixture(scope="session")
def scorers(bundles: Mapping[str, Path]) -> dict[str, Scorer]:
    loaded = {name: Scorer.load(path) for name, path in bundles.items()}
    for scorer in loaded.values():
        scorer.warm_up()
    return loaded


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Circles of references stay as long as the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def engine(scorers: Mapping[str, Scorer]) -> Iterator[Engine]:
    settings = Serve(port=0, slo=Slo(10_000), max_body_bytes=100_000, max_rows=500)
    yield from start(lambda: ScoringApp(scorers, settings), settings)


@pytest.fixture(scope="session")
def ray_pool(ray_cluster: None, bundles: Mapping[str, Path]) -> RunningPool:
    """The same models and limits on Ray Serve, with one replica."""
    models = {name: Model(str(path)) for name, path in bundles.items()}
    # A promise that a busy machine keeps: these tests are not about speed.
    settings = Serve(
        port=0,
        ingress_port=0,
        max_body_bytes=100_000,
        max_rows=500,
        slo=Slo(p99_ms=10_000),
        drain_s=5,
        repository_api=True,
    )
    return RAY.enter_context(running(Config(models=models, serve=settings)))


@pytest.fixture(
    scope="session",
    params=[
        "embedded",
        pytest.param("direct", marks=pytest.mark.ray),
        pytest.param("ingress", marks=pytest.mark.ray),
    ],
)
def lane(request: pytest.FixtureRequest) -> Lane:
    """Every way to an engine: what holds for one holds for all."""
    if request.param == "embedded":
        engine: Lane = request.getfixturevalue("engine")
        return engine
    pool: RunningPool = request.getfixturevalue("ray_pool")
    return Lane(int(getattr(pool, request.param).rpartition(":")[2]))
