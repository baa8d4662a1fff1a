"""Which bundle each model of a pool has, kept in the cluster so that no replica misses a reload."""

from collections.abc import Mapping

import msgspec

from engine import ray_compat
from engine.bundle import ModelName
from engine.config import Model, Slo


class Revisions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The models of a pool.

    Attributes:
        models: Bundle (an absolute directory) and promise, by name.
        generation: 0 as first deployed, one more with each change.
    """

    models: dict[ModelName, Model]
    generation: int = 0

    @property
    def slos(self) -> Mapping[str, Slo]:
        """The promises of the models that have one of their own."""
        return {name: model.slo for name, model in self.models.items() if model.slo is not None}

    def with_bundle(self, name: str, bundle: str) -> "Revisions":
        """The next generation, in which model ``name`` has another bundle."""
        changed = msgspec.structs.replace(self.models[name], bundle=bundle)
        return Revisions({**self.models, name: changed}, self.generation + 1)

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


def _key(pool: str) -> str:
    return f"tandem/{pool}/revisions"
