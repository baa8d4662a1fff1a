"""A pool of replicas on a running Ray Serve: deploy it, scale it, roll it, reload a model, take it away."""

import hashlib
import importlib.metadata
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine import ray_compat
from engine.bundle import Device, DeviceChoice, read_bundle
from engine.config import Config, Model, Serve
from engine.errors import Failed, InvalidConfig, NotFound
from engine.realtime.replicas import revisions as kept
from engine.realtime.replicas.revisions import Revisions
from engine.realtime.replicas.scaling import wanted_replicas

if TYPE_CHECKING:
    from engine.realtime.replicas.replica import ReplicaStatus

_RAISED = re.compile(r"^[\w.]*(Error|Exception|[A-Z]\w+): ")

POOL = "tandem"
"""Name of the Serve application, and of the pool while there is one only."""
CPUS_PER_REPLICA = 0.2
"""What a replica asks of Ray's books, so that twice as many and a batch job find room."""
GPUS_PER_REPLICA = 0.05
"""The same of a GPU, where replicas are to use one."""


def revisions_of(config: Config) -> Revisions:
    """The bundles a config names, each verified; raises ``InvalidBundle`` or ``InvalidConfig``."""
    if not config.models:
        raise InvalidConfig(
            "expected at least one model to serve: --model NAME=BUNDLE, or 'models' in the config"
        )
    return Revisions(
        {name: Model(verified(model.bundle), model.slo) for name, model in config.models.items()},
        sources={name: str(Path(model.bundle).absolute()) for name, model in config.models.items()},
    )


def verified(bundle: str) -> str:
    """The absolute path of an intact bundle; raises ``InvalidBundle``."""
    read_bundle(bundle)
    return str(Path(bundle).resolve())


def deploy(
    revisions: Revisions, settings: Serve, *, name: str = POOL, salt: str = "", jobs_port: int | None = None
) -> None:
    """Run the pool and wait until every replica has warmed up.

    With the settings and model names that already run, only the number of replicas changes, and
    new bundles are loaded in place. Anything else, a new ``salt`` too, rolls: new replicas come
    first, then the old ones drain. ``jobs_port`` is where batch jobs are taken beside the pool.
    Raises ``Failed`` when replicas do not start, or could not.
    """
    import ray
    from ray import serve

    from engine.realtime.replicas.replica import Replica

    devices = devices_of(revisions, settings.device)
    check_devices(devices, ray.cluster_resources())
    before = kept.stored(name)
    current = msgspec.structs.replace(revisions, generation=before.generation + 1) if before else revisions
    kept.store(name, current)
    deployment = serve.deployment(serve.ingress()(Replica)).options(**_options(settings, devices))
    pinned = ray_compat.pin_version(deployment, _code_version(current, settings, f"{salt} {jobs_port}"))
    try:
        serve.run(pinned.bind(current, settings, name, jobs_port), name=name, route_prefix="/")
    except RuntimeError as error:
        raise Failed(f"the replicas of pool '{name}' did not start: {_reason(name, error)}") from error


def devices_of(revisions: Revisions, choice: DeviceChoice) -> set[Device]:
    """Where the models of a pool are scored, as somebody chose or their bundles ask."""
    bundles = (read_bundle(model.bundle) for model in revisions.models.values())
    return {bundle.manifest.device_for(choice) for bundle in bundles}


def check_devices(devices: Collection[Device], resources: Mapping[str, float]) -> None:
    """Raise ``Failed`` if replicas would wait for a GPU in vain: the cluster has none."""
    if "cuda" in devices and not resources.get("GPU"):
        raise Failed("device cuda was asked for, but the Ray cluster has no GPU; use device auto or cpu")


def reload(model: str, bundle: str, *, name: str = POOL) -> int:
    """Swap one model of a running pool to another bundle, between two batches.

    Returns the new generation. Replicas that start later, or that miss the broadcast, find it in
    the cluster. Raises ``InvalidBundle`` before anything changes; where a replica cannot load the
    bundle, all go back to the one before.
    """
    with kept.changing(name):
        return _reload(model, bundle, name)


def load_again(model: str, *, name: str = POOL) -> int:
    """Like ``reload``, from the path that the model was last found by."""
    with kept.changing(name):
        current = kept.stored(name)
        return _reload(model, current.sources.get(model, "") if current else "", name)


def _reload(model: str, bundle: str, name: str) -> int:
    current = kept.stored(name)
    if current is None or model not in current.models:
        raise NotFound(f"no model '{model}' in a pool '{name}' here")
    following = current.with_bundle(model, verified(bundle), str(Path(bundle).absolute()))
    kept.store(name, following)
    try:
        _broadcast(name, "adopt", following)
    except BaseException:
        before = current.models[model].bundle
        kept.store(name, following.with_bundle(model, before, current.sources.get(model, before)))
        raise
    return following.generation


def follow(config: Config, *, name: str = POOL) -> dict[str, int]:
    """Reload each model whose bundle in the config is another than the running one.

    Returns the new generation by model. Raises like ``reload``, and ``InvalidConfig`` for a config
    that names other models than those that run.
    """
    wanted, current = revisions_of(config), kept.stored(name)
    if current is None or current.models.keys() != wanted.models.keys():
        raise InvalidConfig("expected the models that run; start the engine again to add or remove one")
    changed = wanted.bundles_changed_since(current)
    return {model: reload(model, config.models[model].bundle, name=name) for model in changed}


def status(name: str = POOL) -> "list[ReplicaStatus]":
    """What each replica of a running pool is at."""
    return _broadcast(name, "status")


def _broadcast(name: str, method: str, *arguments: object) -> list[Any]:
    """Call a method on every replica; those that end meanwhile do not answer."""
    from ray import serve
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import DeploymentUnavailableError

    handle = serve.get_app_handle(name)
    try:
        answers = handle.broadcast(method, *arguments).results(return_exceptions=True)
    except DeploymentUnavailableError:
        return []
    for answer in answers:
        if isinstance(answer, Exception) and not isinstance(answer, RayActorError):
            raise answer
    return [answer for answer in answers if not isinstance(answer, Exception)]


def remove(name: str = POOL) -> None:
    """Drain the pool's replicas and take it away."""
    from ray import serve

    serve.delete(name)
    kept.forget(name)


def longest_drain_s(settings: Serve) -> float:
    """After this time Serve kills a replica that still drains; a little more, and the pool is gone."""
    return _graceful_s(settings) + 5.0


def decide_replicas(context: Any) -> tuple[int, dict[str, Any]]:
    """Serve's autoscaling policy: as many replicas as their own load asks for."""
    busy: Iterable[float] = (context.aggregated_metrics or {}).get("busy", {}).values()
    low, high = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    return wanted_replicas(busy, at_least=low, at_most=high), {}


def _options(settings: Serve, devices: Collection[Device]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "name": "replica",
        "ray_actor_options": _actor_options(devices),
        "max_ongoing_requests": 1_000_000,  # admission is the replica's own
        "health_check_period_s": 1.0,
        "graceful_shutdown_timeout_s": _graceful_s(settings),
        "graceful_shutdown_wait_loop_s": 0.2,
        "max_surge_percent": 100,
    }
    if settings.max_replicas is None or settings.max_replicas <= settings.replicas:
        return {**options, "num_replicas": settings.replicas}
    autoscaling = {
        "min_replicas": settings.replicas,
        "max_replicas": settings.max_replicas,
        "policy": {"policy_function": f"{__name__}:{decide_replicas.__name__}"},
        "upscale_delay_s": 1.0,
        "downscale_delay_s": 60.0,
        "look_back_period_s": 10.5,
    }
    return {**options, "autoscaling_config": autoscaling}


def _actor_options(devices: Collection[Device]) -> dict[str, float]:
    gpus = {"num_gpus": GPUS_PER_REPLICA} if "cuda" in devices else {}
    return {"num_cpus": CPUS_PER_REPLICA, **gpus}


def _graceful_s(settings: Serve) -> float:
    return ray_compat.MIN_DRAINING_S + settings.drain_s + 10.0


def _code_version(revisions: Revisions, settings: Serve, salt: str) -> str:
    """Equal for deployments between which no replica needs to restart."""
    fixed = msgspec.structs.replace(settings, replicas=1, max_replicas=None)
    promises = {model: entry.slo for model, entry in revisions.models.items()}
    parts = (importlib.metadata.version("tandem-scoring"), promises, fixed, salt)
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:16]


def _reason(name: str, error: Exception) -> str:
    """What a replica said before it ended: the last line of the traceback that Serve keeps."""
    from ray import serve

    application = serve.status().applications.get(name)
    messages: list[str] = (
        [deployment.message for deployment in application.deployments.values()] if application else []
    )
    lines = [line.strip() for text in (*messages, str(error)) for line in text.splitlines() if line.strip()]
    raised = [line for line in lines if _RAISED.match(line)]
    return (raised or lines)[-1]
