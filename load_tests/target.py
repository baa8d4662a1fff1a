"""The engine under test: is it there, which models has it, what do they need?"""

import http.client
import json
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from engine.errors import Failed, InvalidConfig, NotFound

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """An engine's address."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as people write it."""
        return f"http://{self.host}:{self.port}"

    def models(self) -> list[str]:
        """Names of the models that the engine serves."""
        status, answer = self.ask("POST", "/v2/repository/index")
        if status != 200 or not isinstance(answer, list):
            raise Failed(
                f"expected an index of models from {self.url}, got status {status}: is it an engine?"
            )
        return sorted({str(entry["name"]) for entry in answer})

    def features(self, model: str) -> list[str]:
        """Names of a model's features, in its order; raises ``NotFound`` for an unknown model."""
        status, answer = self.ask("GET", f"/v2/models/{model}")
        if status == 404:
            known = ", ".join(self.models()) or "(none)"
            raise NotFound(f"expected one of the models {known}, got {model!r} - at {self.url}")
        if status != 200 or not isinstance(answer, dict):
            raise Failed(f"expected the metadata of {model!r} from {self.url}, got status {status}")
        return [str(tensor["name"]) for tensor in answer["inputs"]]

    def only_model(self) -> str:
        """The name of the only model; raises ``InvalidConfig`` where there are several."""
        names = self.models()
        if len(names) != 1:
            raise InvalidConfig(
                f"expected --model with one of {', '.join(names) or '(none)'} - at {self.url}"
            )
        return names[0]

    def check_grpc(self, port: int) -> None:
        """Raise ``Failed`` where nobody listens at the gRPC port."""
        try:
            socket.create_connection((self.host, port), TIMEOUT_S).close()
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise Failed(
                f"expected gRPC at {self.host}:{port}, got no answer: {why}; "
                "give --grpc-port, and serve with serve.grpc_port"
            ) from error

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, object]:
        """Status and decoded JSON (or text) of one request; raises ``Failed`` where none answers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise Failed(f"expected an engine at {self.url}, got no answer: {why}; is it running?") from error
        finally:
            connection.close()
        try:
            return response.status, json.loads(content)
        except ValueError:
            return response.status, content.decode(errors="replace")


def parse_url(url: str) -> Target:
    """The target of ``http://host:port``; the scheme may be left out."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    try:
        port = parts.port or 80
    except ValueError as error:
        raise InvalidConfig(f"expected a URL such as http://127.0.0.1:8080, got {url!r}: {error}") from error
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
        raise InvalidConfig(f"expected a URL such as http://127.0.0.1:8080, got {url!r}")
    return Target(parts.hostname, port)
