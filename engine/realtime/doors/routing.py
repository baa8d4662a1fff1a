"""Which route a path is: a pure function from method and path to a verb, a model and a version.

Names are case-sensitive and hold anything but a slash.
"""

from dataclasses import dataclass
from typing import Literal

from engine.errors import NotFound, WrongMethod

Verb = Literal[
    "live", "ready", "server", "model", "model_ready", "model_config", "stats", "infer", "score", "metrics",
    "index", "load", "unload", "openapi", "docs",
]  # fmt: skip

SERVER_ROUTES: dict[str, tuple[str, Verb]] = {
    "/v2/health/live": ("GET", "live"),
    "/v2/health/ready": ("GET", "ready"),
    "/v2": ("GET", "server"),
    "/v2/": ("GET", "server"),
    "/v2/models/stats": ("GET", "stats"),
    "/v2/repository/index": ("POST", "index"),
    "/v2/docs": ("GET", "docs"),
    "/v2/openapi.json": ("GET", "openapi"),
    "/metrics": ("GET", "metrics"),
}
"""Routes that name no model."""

MODEL_ROUTES: dict[tuple[str, str], tuple[str, Verb]] = {
    ("v2", ""): ("GET", "model"),
    ("v2", "ready"): ("GET", "model_ready"),
    ("v2", "config"): ("GET", "model_config"),
    ("v2", "stats"): ("GET", "stats"),
    ("v2", "infer"): ("POST", "infer"),
    ("v1", "score"): ("POST", "score"),
    ("v2/repository", "load"): ("POST", "load"),
    ("v2/repository", "unload"): ("POST", "unload"),
}
"""Routes below ``/{api}/models/{model}[/versions/{version}]``, by API and last part."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a request asks for; ``model`` and ``version`` are empty where the path names none."""

    verb: Verb
    model: str = ""
    version: str = ""


def match(method: str, path: str) -> Route:
    """The route of a request; raises ``NotFound`` for the path and ``WrongMethod`` for the method."""
    if path in SERVER_ROUTES:
        expected, verb = SERVER_ROUTES[path]
        _check(method, expected, path)
        return Route(verb)
    api, model, version, action = _parts(path)
    if (api, action) not in MODEL_ROUTES:
        raise NotFound(f"no route {path}; /v2/docs lists them all")
    expected, verb = MODEL_ROUTES[api, action]
    _check(method, expected, path)
    return Route(verb, model, version)


def _parts(path: str) -> tuple[str, str, str, str]:
    api, _, below = path.partition("/models/")
    model, *rest = below.split("/")
    if not (api.startswith("/") and model):
        return "", "", "", ""
    version = ""
    if len(rest) >= 2 and rest[0] == "versions" and rest[1]:
        version, rest = rest[1], rest[2:]
    if len(rest) > 1:
        return "", "", "", ""
    return api[1:], model, version, rest[0] if rest else ""


def _check(method: str, expected: str, path: str) -> None:
    if method == expected or (method == "HEAD" and expected == "GET"):
        return
    error = WrongMethod(f"expected {expected} {path}, got {method}")
    error.allowed = "GET, HEAD" if expected == "GET" else expected
    raise error
