"""A pool on real Ray: nothing is lost while it grows, shrinks, rolls, reloads or loses a replica."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from engine.config import Serve
from engine.errors import Failed, InvalidBundle, NotFound
from engine.realtime.replicas import pool
from engine.realtime.replicas.cluster import RunningPool
from tests.engine.realtime.accounting import Account, Client
from tests.engine.realtime.running import MIXED, NUMERIC, Lane, bundle
from tests.waiting import wait_until

pytestmark = pytest.mark.ray

BODY = json.dumps({"rows": [{"f0": 1, "f1": 1, "f2": 1, "f3": 1}]}).encode()
PATH = "/v1/models/numeric/score"
CLIENTS_PER_LANE = 3

Traffic = Callable[[], Mapping[str, Account]]


@pytest.fixture
def traffic(ray_pool: RunningPool) -> Iterator[Traffic]:
    """Clients on both lanes; calling it stops them and gives the accounts, by lane."""
    clients = {
        lane: [Client(port(ray_pool, lane), PATH, BODY, b'"scores":[') for _ in range(CLIENTS_PER_LANE)]
        for lane in ("direct", "ingress")
    }
    for lane in clients.values():
        for client in lane:
            client.start()
    yield lambda: {name: Account.sum(client.stop() for client in lane) for name, lane in clients.items()}
    for lane in clients.values():
        for client in lane:
            client.stop()


def port(ray_pool: RunningPool, lane: str) -> int:
    return int(getattr(ray_pool, lane).rpartition(":")[2])


def pids() -> set[int]:
    return {replica.pid for replica in pool.status()}


def nothing_lost(accounts: Mapping[str, Account]) -> bool:
    for lane, account in accounts.items():
        assert account.losses == [], lane
        assert account.outcomes["answered"] > 20, lane
        assert set(account.outcomes) <= {"answered", "resent"}, lane
    return True


def test_growing_and_shrinking_loses_no_request_and_keeps_the_replicas_that_stay(ray_pool, traffic):
    before = pids()
    two = msgspec.structs.replace(ray_pool.settings, replicas=2)
    pool.deploy(ray_pool.revisions, two)
    wait_until(lambda: len(pids()) == 2)
    assert before < pids()
    pool.deploy(ray_pool.revisions, ray_pool.settings)
    wait_until(lambda: len(pids()) == 1)
    assert nothing_lost(traffic())


def test_a_rolling_update_replaces_every_replica_and_loses_no_request(ray_pool, traffic):
    before = pids()
    pool.deploy(ray_pool.revisions, ray_pool.settings, salt="roll")
    wait_until(lambda: pids().isdisjoint(before))
    assert nothing_lost(traffic())


def test_a_killed_replica_loses_only_what_it_had_in_flight_and_is_replaced(ray_pool, traffic):
    pool.deploy(ray_pool.revisions, msgspec.structs.replace(ray_pool.settings, replicas=2), salt="roll")
    victim, _ = sorted(pids())
    killed_s = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in pids() and len(pids()) == 2)
    accounts = traffic()
    pool.deploy(ray_pool.revisions, ray_pool.settings, salt="roll")
    for account in accounts.values():
        assert len(account.losses) <= CLIENTS_PER_LANE
        assert all(0 <= lost_s - killed_s < 1 for lost_s, _ in account.losses)
        assert account.outcomes["refused"] == 0
        assert account.outcomes["answered"] > 20


def test_a_reload_swaps_the_model_in_every_replica_and_loses_no_request(ray_pool, traffic, tmp_path):
    lanes = [Lane(port(ray_pool, lane)) for lane in ("direct", "ingress")]
    generation = pool.reload("numeric", str(bundle(tmp_path, "numeric", NUMERIC, scale=2.0)))
    assert {replica.generation for replica in pool.status()} == {generation}
    assert [lane.ask("POST", PATH, BODY).json["scores"] for lane in lanes] == [[20.0], [20.0]]
    pool.reload("numeric", ray_pool.revisions.models["numeric"].bundle)
    assert [lane.ask("POST", PATH, BODY).json["scores"] for lane in lanes] == [[10.0], [10.0]]
    assert nothing_lost(traffic())


def test_a_replica_that_starts_after_a_reload_has_the_new_bundle(ray_pool, tmp_path):
    pool.reload("numeric", str(bundle(tmp_path, "numeric", NUMERIC, scale=3.0)))
    (before,) = pids()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: pids() not in ({before}, set()))
    direct = Lane(port(ray_pool, "direct"))
    assert direct.ask("POST", PATH, BODY).json["scores"] == [30.0]
    pool.reload("numeric", ray_pool.revisions.models["numeric"].bundle)


@pytest.mark.parametrize("lane", ["direct", "ingress"])
def test_a_load_request_reaches_every_replica_and_a_bad_bundle_changes_nothing(ray_pool, tmp_path, lane):
    asked = Lane(port(ray_pool, lane))
    link = tmp_path / "current"

    def point_to(path: Path) -> None:
        link.unlink(missing_ok=True)
        link.symlink_to(path)

    def load() -> int:
        return asked.ask("POST", "/v2/repository/models/numeric/load", {}).status

    def scores() -> list[list[float]]:
        lanes = [Lane(port(ray_pool, lane)) for lane in ("direct", "ingress")]
        return [lane.ask("POST", PATH, BODY).json["scores"] for lane in lanes]

    point_to(Path(ray_pool.revisions.models["numeric"].bundle))
    pool.reload("numeric", str(link))
    point_to(bundle(tmp_path, "numeric", NUMERIC, scale=4.0))
    assert (load(), scores()) == (200, [[40.0], [40.0]])
    point_to(tmp_path)
    assert (load(), scores()) == (400, [[40.0], [40.0]])
    point_to(Path(ray_pool.revisions.models["numeric"].bundle))
    assert (load(), scores()) == (200, [[10.0], [10.0]])


def test_changes_of_a_pool_take_turns(ray_pool, tmp_path):
    paths = [str(bundle(tmp_path, "numeric", NUMERIC, scale=float(scale))) for scale in (1, 2, 3, 4)]
    with ThreadPoolExecutor(4) as threads:
        generations = list(threads.map(lambda path: pool.reload("numeric", path), paths))
    assert len(set(generations)) == 4
    assert {replica.generation for replica in pool.status()} == {max(generations)}
    pool.reload("numeric", ray_pool.revisions.models["numeric"].bundle)


def test_a_reload_of_what_is_no_bundle_changes_nothing(ray_pool, tmp_path):
    before = pool.status()
    with pytest.raises(InvalidBundle):
        pool.reload("numeric", str(tmp_path))
    assert pool.status()[0].generation == before[0].generation


def test_a_reload_of_a_model_that_is_not_served_says_so(ray_pool, tmp_path):
    with pytest.raises(NotFound, match="nobody"):
        pool.reload("nobody", str(bundle(tmp_path, "mixed", MIXED)))


def test_the_ingress_answers_ahead_of_serve(ray_pool):
    """The canary of the middleware hook: Serve itself adds a request id to each answer."""
    ingress = Lane(port(ray_pool, "ingress"))
    # Until HAProxy has seen that a replica lost by an earlier test is back, Serve's fallback answers.
    wait_until(lambda: "x-request-id" not in ingress.ask("GET", "/v2/health/ready").headers)
    assert ingress.ask("GET", "/-/routes").json == {"/": pool.POOL}


def test_without_the_middleware_serve_answers_with_the_same_app(ray_pool):
    """Serve's fallback proxy holds no app, so its requests take Serve's own way to a replica."""
    fallback = Lane(int(os.environ["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"]))
    reply = fallback.ask("POST", PATH, BODY)
    assert reply.json["scores"] == [10.0]
    assert "x-request-id" in reply.headers


def test_a_bundle_that_cannot_be_scored_is_refused_before_any_replica_starts(ray_pool, tmp_path: Path):
    with pytest.raises(InvalidBundle):
        pool.verified(str(tmp_path / "nothing"))


def test_only_replicas_on_cuda_ask_ray_for_a_gpu():
    asked = {
        device: pool._options(Serve(), {"cpu", device})["ray_actor_options"].get("num_gpus", 0)
        for device in ("cpu", "auto", "cuda")
    }
    assert asked == {"cpu": 0, "auto": 0, "cuda": pool.GPUS_PER_REPLICA}


def test_replicas_that_would_wait_for_a_gpu_in_vain_are_refused():
    pool.check_devices({"cpu", "cuda"}, {"CPU": 4.0, "GPU": 1.0})
    pool.check_devices({"auto"}, {"CPU": 4.0})
    with pytest.raises(Failed, match="the Ray cluster has no GPU"):
        pool.check_devices({"cpu", "cuda"}, {"CPU": 4.0})


def test_serve_asks_for_as_many_replicas_as_their_own_load_needs():
    from ray.serve.config import AutoscalingContext

    context = AutoscalingContext(
        deployment_id=None,
        deployment_name="replica",
        app_name=pool.POOL,
        current_num_replicas=2,
        target_num_replicas=2,
        running_replicas=[],
        total_num_requests=0,
        total_queued_requests=0,
        aggregated_metrics={"busy": {"a": 0.9, "b": 0.9}},
        raw_metrics={},
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=4,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=0.0,
        config=None,
    )
    assert pool.decide_replicas(context) == (3, {})
