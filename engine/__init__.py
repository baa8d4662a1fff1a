"""Tandem: score Parquet in bulk and single requests in microseconds, with the same bits."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.packing import pack as pack
    from engine.scorer import Scorer as Scorer

__all__ = ["Scorer", "pack"]


def __getattr__(name: str) -> object:
    """The two names of the Python interface, imported on first use so that ``tandem --help`` is quick."""
    if name == "pack":
        from engine.packing import pack

        return pack
    if name == "Scorer":
        from engine.scorer import Scorer

        return Scorer
    raise AttributeError(f"module 'engine' has no attribute '{name}'")


def __dir__() -> list[str]:
    """What completion in a notebook shows."""
    return [*globals(), *__all__]
