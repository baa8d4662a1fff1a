"""The models of an engine in one process: loaded from their paths, and again while it serves."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.bundle import DeviceChoice
from engine.config import Model
from engine.errors import InvalidBundle, InvalidConfig
from engine.realtime.serving.app import ScoringApp
from engine.scorer import Scorer

Tell = Callable[[str], None]
"""Is told, in a few words, what is being waited for."""


class Loader:
    """Loads models, and remembers from where: a bundle never changes, but a link may point to another.

    Args:
        models: As the config names them.
        tell: Called before each wait.
        device: Where they score, as somebody chose.
    """

    def __init__(self, models: Mapping[str, Model], tell: Tell, device: DeviceChoice = "bundle") -> None:
        self._models = dict(models)
        self._paths: dict[str, Path] = {}
        self._tell = tell
        self._device = device
        self._one_at_a_time = asyncio.Lock()

    def load_all(self) -> dict[str, Scorer]:
        """Every model, warmed up, by name; raises ``InvalidBundle``."""
        self._paths = {name: _path(name, model) for name, model in self._models.items()}
        return {name: self._warm(name, path) for name, path in self._paths.items()}

    async def follow(self, app: ScoringApp, models: Mapping[str, Model]) -> list[str]:
        """Serve what a config names now; returns the models whose bundle is another one.

        All of them are loaded and warmed up beside what serves before the first is swapped. Raises
        ``InvalidBundle``, or ``InvalidConfig`` for other models than those that run; then nothing changes.
        """
        if models.keys() != self._models.keys():
            raise InvalidConfig("expected the models that run; start the engine again to add or remove one")
        return await self._swap(app, models)

    async def load_again(self, app: ScoringApp, name: str) -> None:
        """Serve the bundle that is at a model's path now; raises ``InvalidBundle``."""
        await self._swap(app, {name: self._models[name]})

    async def _swap(self, app: ScoringApp, models: Mapping[str, Model]) -> list[str]:
        async with self._one_at_a_time:
            paths = {name: _path(name, model) for name, model in models.items()}
            changed = {name: path for name, path in paths.items() if path != self._paths[name]}
            scorers = {
                name: await asyncio.to_thread(self._warm, name, path) for name, path in changed.items()
            }
            for name, scorer in scorers.items():
                await app.swap(name, scorer)
            self._models |= models
            self._paths |= paths
        return list(changed)

    def _warm(self, name: str, path: Path) -> Scorer:
        self._tell(f"loading model '{name}' from {path}")
        scorer = Scorer.load(path, device=self._device)
        self._tell(f"warming up {scorer.label}")
        scorer.warm_up()
        return scorer


def _path(name: str, model: Model) -> Path:
    try:
        return Path(model.bundle).resolve()
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise InvalidBundle(f"the path of model '{name}' leads to no bundle: {error}") from error
