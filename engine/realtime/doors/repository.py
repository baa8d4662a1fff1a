"""The model repository of the Open Inference Protocol: which models there are, and loading one again.

What is served is what the config names. So *load* reads a model's bundle again from the path that the
config gives, which may be a link to another bundle by now; nothing is taken from the request, neither
files nor a configuration. *Unload* is refused, and both are off unless ``serve.repository_api`` is on.
"""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from engine.errors import Forbidden, InvalidRequest
from engine.realtime.doors.pieces import MALFORMED


class IndexRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v2/repository/index``; every model here is ready, so ``ready`` leaves none out."""

    ready: bool | None = False


class LoadRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a load or unload request."""

    parameters: dict[str, msgspec.Raw] | None = {}


T = TypeVar("T")
_INDEX = msgspec.json.Decoder(IndexRequest)
_LOAD = msgspec.json.Decoder(LoadRequest)


def check_index(body: bytes) -> None:
    """Raise ``InvalidRequest`` unless a body, if there is one, asks for the index."""
    _decoded(_INDEX, body)


def load_parameters(body: bytes) -> Iterable[str]:
    """The names of the parameters of a load request; raises ``InvalidRequest``."""
    return _decoded(_LOAD, body).parameters or ()


def check_load(parameters: Iterable[str], *, allowed: bool) -> None:
    """Raise ``Forbidden`` where loading is off, ``InvalidRequest`` for what would override a bundle."""
    if not allowed:
        raise Forbidden("models are not loaded by request here; set serve.repository_api: true to allow it")
    for name in parameters:
        raise InvalidRequest(
            f"load parameter '{name[:80]}' is not taken: a model comes from the path in the engine's config,"
            " never from a request"
        )


def refuse_unload(name: str) -> None:
    """Raise ``Forbidden``: what is served is what the config names."""
    raise Forbidden(
        f"model '{name}' is not unloaded by request; take it out of the config and start the engine again"
    )


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body or b"{}")
    except MALFORMED as error:
        raise InvalidRequest(f"the body is no request of the repository: {error}") from error
