"""Which bundle each model of a pool has, kept in the cluster so that no replica misses a reload."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from engine import ray_compat
from engine.bundle import ModelName
from engine.config import Model, Slo
from engine.errors import Conflict

POLL_S = 0.05
PATIENCE_S = 60.0
LONGEST_CHANGE_S = 300.0


class Revisions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The models of a pool.

    Attributes:
        models: Bundle (an absolute directory) and promise, by name.
        generation: 0 as first deployed, one more with each change.
        sources: The path that a bundle was found by, perhaps a link, by name.
    """

    models: dict[ModelName, Model]
    generation: int = 0
    sources: dict[ModelName, str] = {}

    @property
    def slos(self) -> Mapping[str, Slo]:
        """The promises of the models that have one of their own."""
        return {name: model.slo for name, model in self.models.items() if model.slo is not None}

    def with_bundle(self, name: str, bundle: str, source: str) -> "Revisions":
        """The next generation, in which model ``name`` has another bundle, found by the path ``source``."""
        changed = msgspec.structs.replace(self.models[name], bundle=bundle)
        sources = {**self.sources, name: source}
        return Revisions({**self.models, name: changed}, self.generation + 1, sources)

    def bundles_changed_since(self, other: "Revisions") -> dict[str, str]:
        """The bundles that ``other`` did not have, by model."""
        before = {name: model.bundle for name, model in other.models.items()}
        return {name: model.bundle for name, model in self.models.items() if before.get(name) != model.bundle}


def store(pool: str, revisions: Revisions) -> None:
    """Keep the revisions of a pool for replicas yet to start, as long as the cluster lives."""
    ray_compat.store(_key(pool), msgspec.json.encode(revisions))


def stored(pool: str) -> Revisions | None:
    """What ``store`` kept, or ``None``."""
    data = ray_compat.stored(_key(pool))
    return None if data is None else msgspec.json.decode(data, type=Revisions)


def forget(pool: str) -> None:
    """Remove what ``store`` kept."""
    ray_compat.forget(_key(pool))


@contextmanager
def changing(pool: str) -> Iterator[None]:
    """Wait until nobody else changes the revisions of a pool, and let nobody do so meanwhile.

    Raises ``Conflict`` after ``PATIENCE_S``. Who died over a change is in the way for ``LONGEST_CHANGE_S``.
    """
    key, ends_s = f"{_key(pool)}/changing", time.monotonic() + PATIENCE_S
    while not ray_compat.store_if_absent(key, b"%d" % (time.time() + LONGEST_CHANGE_S)):
        if int(ray_compat.stored(key) or b"0") < time.time():
            ray_compat.forget(key)
        elif time.monotonic() > ends_s:
            raise Conflict(f"another reload in pool '{pool}' is under way; try again when it has ended")
        else:
            time.sleep(POLL_S)
    try:
        yield
    finally:
        ray_compat.forget(key)


def _key(pool: str) -> str:
    return f"tandem/{pool}/revisions"
