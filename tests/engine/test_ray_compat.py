"""Canaries: each fails when Ray changes what ``engine.ray_compat`` builds on. And the fallbacks."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine import ray_compat


def test_ray_reads_every_flag_we_set():
    import ray._common.usage.usage_constants as usage
    import ray._private.accelerators.accelerator as accelerator
    import ray.serve._private.constants as serve

    read = "".join(Path(module.__file__).read_text() for module in (usage, accelerator, serve))
    flags = ray_compat.flags() | ray_compat.private_flags("/tmp/x")
    elsewhere = {"RAY_worker_niceness", ray_compat.DIRECTORY}  # read by C++, see below; and by us
    assert {flag for flag in flags if flag not in read} == elsewhere


def test_side_ports_are_free_distinct_and_none_of_tritons():
    flags = ray_compat.private_flags("/tmp/x")
    ports = {int(flags[name]) for name in ray_compat.SIDE_PORTS}
    assert len(ports) == len(ray_compat.SIDE_PORTS)
    assert ports.isdisjoint({8000, 8001, 8002, 8500, 9500})


def environment_after(prepare: str, **before: str) -> dict[str, str]:
    """The environment of a new process that has called ``prepare``, and before that was ``before``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TANDEM_"))}
    code = f"import json, os; from engine import ray_compat; {prepare}; print(json.dumps(dict(os.environ)))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=clean | before, check=True, capture_output=True, text=True)
    environment: dict[str, str] = json.loads(done.stdout)
    return environment


def test_what_the_user_has_set_stays():
    port = "RAY_SERVE_HAPROXY_STATS_PORT"
    after = environment_after("ray_compat.prepare()", **{"RAY_worker_niceness": "7", port: "8404"})
    assert (after["RAY_worker_niceness"], after[port]) == ("7", "8404")
    assert after["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"


def test_an_engine_started_by_another_shares_none_of_its_files():
    parent = environment_after("ray_compat.prepare()")
    child = environment_after("ray_compat.prepare()", **parent)
    assert child[ray_compat.DIRECTORY] != parent[ray_compat.DIRECTORY]
    assert child["RAY_SERVE_HAPROXY_SOCKET_PATH"].startswith(child[ray_compat.DIRECTORY])


def test_a_process_that_joins_its_parents_cluster_keeps_the_parents_flags():
    parent = environment_after("ray_compat.prepare()")
    child = environment_after("ray_compat.prepare('127.0.0.1:6379')", **parent)
    assert child[ray_compat.DIRECTORY] == parent[ray_compat.DIRECTORY]


@pytest.mark.parametrize(
    ("address", "closed"), [("None", True), ("'127.0.0.1:6379'", True), ("'ray.example:6379'", False)]
)
def test_only_a_cluster_of_this_machine_is_closed_to_the_network(address, closed):
    after = environment_after(f"ray_compat.prepare({address})")
    assert (after.get(ray_compat.LOOPBACK_FLAG) == "0") is closed


def test_ray_accepts_what_the_hook_returns():
    from ray.serve._private.http_util import validate_http_proxy_callback_return
    from ray.serve._private.utils import call_function_from_import_path

    middlewares = call_function_from_import_path(ray_compat.HOOK)
    assert validate_http_proxy_callback_return(middlewares) == middlewares


def test_without_the_hooks_ray_version_the_ingress_is_a_plain_serve_app(monkeypatch):
    monkeypatch.setattr(ray_compat, "SUPPORTED", "1.0.")
    assert "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH" not in ray_compat.flags()


def test_without_haproxy_serves_own_proxy_is_left_on(monkeypatch):
    monkeypatch.setattr(ray_compat, "has_haproxy", lambda: False)
    assert "RAY_SERVE_ENABLE_HA_PROXY" not in ray_compat.flags()


def test_the_code_version_is_ours():
    from ray import serve

    deployment = serve.deployment(type("Nothing", (), {}))
    assert ray_compat.pin_version(deployment, "v1").version == "v1"


def test_a_deployment_that_takes_no_version_is_deployed_as_it_is():
    class Unversioned:
        def options(self, **options):
            raise ValueError("`version` has been removed")

    deployment = Unversioned()
    assert ray_compat.pin_version(deployment, "v1") is deployment


async def _answered_by(app, path):
    """Which of Serve's app and ours the shortcut lets answer."""
    callers = []

    async def serve_app(scope, receive, send):
        callers.append("serve")

    async def ours(scope, receive, send):
        callers.append("ours")

    if app == "ours":
        ray_compat.answer_with(ours)
    await ray_compat.Shortcut(serve_app)({"type": "http", "path": path}, None, None)
    return callers


@pytest.mark.parametrize(
    ("app", "path", "answers"),
    [
        ("none", "/v2/health/live", "serve"),
        ("ours", "/v2/health/live", "ours"),
        ("ours", "/-/healthz", "serve"),
        ("ours", "/-/routes", "serve"),
    ],
)
def test_the_shortcut_answers_where_an_app_is_and_leaves_serves_own_paths(monkeypatch, app, path, answers):
    monkeypatch.setattr(ray_compat, "_installed", None)
    assert asyncio.run(_answered_by(app, path)) == [answers]


def test_the_shortcut_passes_on_another_event_loop_than_the_apps(monkeypatch):
    monkeypatch.setattr(ray_compat, "_installed", None)
    asyncio.run(_answered_by("ours", "/v2"))
    assert asyncio.run(_answered_by("none", "/v2")) == ["serve"]


@pytest.mark.parametrize(
    ("setting", "owner"), [("LOOKS_EVERY", "_resource_manager"), ("WAITS", "_executor_state")]
)
def test_where_ray_data_looks_by_another_name_nothing_is_touched(monkeypatch, setting, owner):
    monkeypatch.setattr(ray_compat, setting, "ANOTHER_NAME")
    with ray_compat.prompt_execution():
        assert not hasattr(getattr(ray_compat, owner)(), "ANOTHER_NAME")
    assert not hasattr(getattr(ray_compat, owner)(), "ANOTHER_NAME")


@pytest.mark.ray
def test_workers_run_at_normal_niceness(ray_cluster):
    import ray

    # A runtime environment of its own is a worker of its own: no batch task has reniced it.
    fresh = {"env_vars": {"TANDEM_TEST_WORKER": "fresh"}}
    niceness = ray.remote(runtime_env=fresh)(lambda: os.getpriority(os.PRIO_PROCESS, 0))
    assert ray.get(niceness.remote()) == 0


@pytest.mark.ray
def test_the_cluster_keeps_values(ray_cluster):
    assert ray_compat.stored("test/nothing") is None
    ray_compat.store("test/key", b"one")
    ray_compat.store("test/key", b"two")
    assert ray_compat.stored("test/key") == b"two"
    ray_compat.forget("test/key")
    assert ray_compat.stored("test/key") is None


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Data's own, of its own fields
def test_tasks_of_a_job_run_side_by_side_from_the_start(ray_cluster, tmp_path, monkeypatch):
    """A canary of ``prompt_execution``: as Ray is, the second task waits for the first's end."""
    import ray.data
    from ray.data._internal.execution.resource_manager import ResourceManager

    monkeypatch.setattr(ResourceManager, ray_compat.LOOKS_EVERY, 60.0)

    def meet(block):
        (tmp_path / str(block["id"][0].as_py())).touch()
        deadline_s = time.monotonic() + 20.0
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        return block.append_column("met", [[len(list(tmp_path.iterdir())) == 2]])

    with ray_compat.prompt_execution():
        numbers = ray.data.range(2, override_num_blocks=2)
        rows = numbers.map_batches(meet, batch_size=None, batch_format="pyarrow").take_all()
    assert [row["met"] for row in rows] == [True, True]
    assert getattr(ResourceManager, ray_compat.LOOKS_EVERY) == 60.0


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Data's own, of its own fields
def test_a_task_follows_the_first_that_ends(ray_cluster, tmp_path, monkeypatch):
    """The other canary: else the third task waits as long as Ray waits for both before it to end."""
    import ray.data
    from ray.data._internal.execution import streaming_executor_state

    monkeypatch.setattr(streaming_executor_state, ray_compat.WAITS, 60.0)

    def follow(block):
        place = block["id"][0].as_py()
        (tmp_path / str(place)).touch()
        deadline_s = time.monotonic() + 20.0
        while place == 1 and not (tmp_path / "2").exists() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        return block.append_column("followed", [[(tmp_path / "2").exists()]])

    with ray_compat.prompt_execution():
        numbers = ray.data.range(3, override_num_blocks=3)
        follows = numbers.map_batches(follow, batch_size=None, batch_format="pyarrow", concurrency=2)
        rows = {row["id"]: row["followed"] for row in follows.take_all()}
    assert rows[1]
    assert getattr(streaming_executor_state, ray_compat.WAITS) == 60.0
