"""The ASGI application: every request of every lane comes through here.

Serves without having seen a ``lifespan`` event. It decides nothing about models: a route picks a
door, and whatever goes wrong becomes a status and ``{"error": sentence}``.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from functools import partial
from typing import Any

from engine.config import Serve, Slo
from engine.errors import Failed, Forbidden, InvalidRequest, NotFound, TandemError
from engine.realtime.counting.exposition import CONTENT_TYPE, render
from engine.realtime.counting.node_counters import NodeCounters, directory_of
from engine.realtime.counting.statistics import model_statistics
from engine.realtime.doors.answers import CLOSE, Answer, error_answer, json_answer
from engine.realtime.doors.body import Disconnected, Receive, read_body
from engine.realtime.doors.metadata import index_entry, model_config, model_metadata, server_metadata
from engine.realtime.doors.openapi import document
from engine.realtime.doors.page import page
from engine.realtime.doors.repository import check_index, check_load, load_parameters, refuse_unload
from engine.realtime.doors.routing import Route, match
from engine.realtime.futures import settle
from engine.realtime.serving.access_log import AccessLog
from engine.realtime.serving.passage import HttpPassage, Passage
from engine.realtime.serving.room import Held, Room
from engine.realtime.serving.served import TIMING, Revision, Scores, ServedModel, server_timing

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)

HTML = (b"content-type", b"text/html; charset=utf-8")
Reload = Callable[[str], Awaitable[None]]
Scoring = tuple[ServedModel, str]
"""A model and the verb ``infer`` or ``score``."""


class ScoringApp:
    """An ASGI 3 callable over a set of models.

    Args:
        scorers: Warmed up, by the name they are served under.
        settings: Limits and the promise of models without one of their own.
        slos: Models' own promises.

    Attributes:
        max_body_bytes: The limit.
        room: The memory of bodies that are there at the same time.
        in_flight: Requests under way, in all lanes.
        draining: Set it, and every answer closes its connection.
        scoring: What ``begin`` wants, by the exact path of a POST.
        reload: Loads a model again from its path and swaps it; None where nobody can.
        jobs_port: Where the engine takes batch jobs, as its documents say; None where it takes none.
    """

    def __init__(
        self, scorers: Mapping[str, Scores], settings: Serve, slos: Mapping[str, Slo] | None = None
    ) -> None:
        self.in_flight = 0
        self.draining = False
        self.reload: Reload | None = None
        self.jobs_port: int | None = None
        self._settings = settings
        self._access_log = AccessLog() if settings.access_log else None
        self.max_body_bytes = settings.max_body_bytes
        self.room = Room(settings.max_body_bytes)
        self._counters = NodeCounters(list(scorers), directory_of(settings.port, list(scorers)))
        self._models = {
            name: ServedModel(
                name,
                scorer,
                slo_s=((slos or {}).get(name) or settings.slo).p99_ms / 1e3,
                max_batch_rows=settings.max_batch_rows,
                counters=self._counters.by_model[name],
            )
            for name, scorer in scorers.items()
        }
        for model in self._models.values():
            model.learn_costs()
        self.scoring: dict[bytes, Scoring] = {}
        for name, model in self._models.items():
            self.scoring[f"/v2/models/{name}/infer".encode()] = (model, "infer")
            self.scoring[f"/v1/models/{name}/score".encode()] = (model, "score")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the lifespan."""
        if scope["type"] != "http":
            await self._other_scope(scope, receive, send)
            return
        arrived_s = time.perf_counter()
        self.in_flight += 1
        try:
            answer = await self._answer(scope, receive, arrived_s)
            if all(name != TIMING for name, _ in answer.headers):
                answer.headers.append(server_timing(0.0, 0.0, time.perf_counter() - arrived_s))
            self._complete(answer)
            self.log_access(scope["method"], scope["path"], answer, arrived_s)
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            await send({"type": "http.response.body", "body": answer.body})
        except Disconnected:
            pass
        finally:
            self.in_flight -= 1

    def begin(
        self,
        scoring: Scoring,
        headers: Mapping[bytes, bytes],
        body: bytes,
        deliver: Callable[[Answer], None],
        arrived_s: float,
        unread_s: float,
    ) -> HttpPassage:
        """Answer a scoring request without a task, for a server that takes part; see ``scoring``.

        Args:
            scoring: From ``scoring``, by path.
            headers: Names in lower case.
            body: Within the limit.
            deliver: Takes the answer, on the loop, perhaps before this returns, and calls ``ended``.
            arrived_s: When it came, by ``time.perf_counter``.
            unread_s: How long it had lain in its socket when the loop read it.
        """
        self.in_flight += 1
        model, verb = scoring
        passage = HttpPassage(model, arrived_s, deliver, unread_s=unread_s)
        passage.begin(verb, headers, body, self.max_body_bytes, self._settings.max_rows)
        return passage

    def ended(self, scoring: Scoring, answer: Answer, arrived_s: float) -> None:
        """A request that was begun has its answer; adds the headers that are still missing."""
        self.in_flight -= 1
        self._complete(answer)
        if self._access_log is not None:
            model, verb = scoring
            path = f"/v{1 if verb == 'score' else 2}/models/{model.name}/{verb}"
            self.log_access("POST", path, answer, arrived_s)

    def log_access(self, method: str, path: str, answer: Answer, arrived_s: float) -> None:
        """Write a line of the access log, if there is one, about a request that came at ``arrived_s``."""
        if self._access_log is not None:
            self._access_log.write(method, path, answer, time.perf_counter() - arrived_s)

    def give_up(self, passage: Passage) -> None:
        """The client of a passage that was begun is gone."""
        if not passage.done():
            self.in_flight -= 1
            passage.cancel()

    async def swap(self, name: str, scorer: Scores) -> None:
        """Measure another, warmed-up revision of a model, and serve it from the next request on."""
        model = self._models[name]
        model.swap(scorer, await asyncio.to_thread(model.measured_costs, scorer))

    def settle_counts(self) -> None:
        """Show the other replicas of the node what was counted here; once a second will do."""
        self._counters.settle()

    async def close(self) -> None:
        """End the models' threads and give back the counters."""
        for model in self._models.values():
            model.close()
        self._counters.close()

    async def _answer(self, scope: Message, receive: Receive, arrived_s: float) -> Answer:
        held = Held(self.room)  # until there is an answer: it may have to wait for the thread that reads it
        try:
            return await self._answer_held(scope, receive, arrived_s, held)
        finally:
            held.release()

    async def _answer_held(self, scope: Message, receive: Receive, arrived_s: float, held: Held) -> Answer:
        model: ServedModel | None = None
        try:
            route = match(scope["method"], scope["path"])
            headers = dict(scope["headers"])
            if route.verb in ("index", "load", "unload"):
                return await self._repository(route, await self._body(headers, receive, held))
            if route.verb not in ("infer", "score"):
                return self._about(route)
            model = self.model(route.model, route.version)
            body = await self._body(headers, receive, held)
        except TandemError as error:
            answer = error_answer(error)
            answer.headers += [model.revision.header] if model is not None else []
            return answer
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        passage = HttpPassage(model, arrived_s, partial(settle, future))
        try:
            passage.begin(route.verb, headers, body, self.max_body_bytes, self._settings.max_rows)
            if model.batcher.is_dear and not passage.done():
                await _unless_gone(future, receive)
            return await future
        finally:
            passage.cancel()

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive, held: Held) -> bytes:
        return await read_body(receive, headers.get(b"content-length"), self.max_body_bytes, held.add)

    def _complete(self, answer: Answer) -> None:
        answer.headers.append((b"content-length", b"%d" % len(answer.body)))
        if self.draining:
            answer.headers.append(CLOSE)

    def _about(self, route: Route) -> Answer:
        match route.verb:
            case "live":
                return json_answer({"live": True})
            case "ready":
                return self._readiness({"live": True})
            case "server":
                return json_answer(server_metadata())
            case "model":
                return json_answer(model_metadata(self.model(route.model, route.version).revision))
            case "model_ready":
                return self._readiness({"name": self.model(route.model, route.version).name})
            case "model_config":
                return json_answer(model_config(self.model(route.model, route.version).revision))
            case "stats":
                return json_answer({"model_stats": self.statistics(route.model, route.version)})
            case "metrics":
                return self._metrics()
            case "openapi":
                jobs = None if self.jobs_port is None else (self._settings.host, self.jobs_port)
                return json_answer(document(self.revisions(), jobs))
            case _:
                may_load = self._settings.repository_api and self.reload is not None
                return Answer(200, [HTML], page(self.revisions(), may_load, self.jobs_port))

    def _readiness(self, more: dict[str, Any]) -> Answer:
        return json_answer({"ready": not self.draining, **more}, 503 if self.draining else 200)

    async def _repository(self, route: Route, body: bytes) -> Answer:
        match route.verb:
            case "load":
                await self.load(route.model, load_parameters(body))
            case "unload":
                self.unload(route.model)
            case _:
                check_index(body)
                return json_answer([index_entry(revision) for revision in self.revisions()])
        return Answer(200, [], b"")

    async def load(self, name: str, parameters: Iterable[str]) -> None:
        """Load a model again from its path, as the protocol's repository asks.

        Raises ``NotFound``, ``Forbidden``, ``InvalidRequest`` for any parameter, and what loading raises.
        """
        check_load(parameters, allowed=self._settings.repository_api)
        if self.reload is None:
            raise Forbidden("this engine was not started from paths, there is nothing to load again")
        try:
            await self.reload(self.model(name).name)
        except TandemError:
            raise
        except Exception as error:
            log.exception("model '%s' was not loaded again", name)
            raise Failed(f"model '{name}' was not loaded again; the engine's log has the details") from error

    def unload(self, name: str) -> None:
        """Refuse to unload a model; raises ``NotFound`` or ``Forbidden``."""
        refuse_unload(self.model(name).name)

    def statistics(self, name: str = "", version: str = "") -> list[dict[str, Any]]:
        """What the node has counted for one model, or for each; raises ``NotFound``."""
        models = [self.model(name, version)] if name else list(self._models.values())
        totals = self._counters.totals()
        return [model_statistics(model.name, model.revision.id, totals[model.name]) for model in models]

    def model(self, name: str, version: str = "") -> ServedModel:
        """A model by its name, and by its version if one is given; raises ``NotFound``."""
        model = self._models.get(name)
        if model is None:
            raise NotFound(f"no model '{name}'; served here: {', '.join(sorted(self._models)) or 'none'}")
        if version and not model.revision.is_version(version):
            raise NotFound(f"model '{name}' has no version '{version}', but '{model.revision.id}'")
        return model

    def revisions(self) -> list[Revision]:
        """What is served now."""
        return [model.revision for model in self._models.values()]

    def _metrics(self) -> Answer:
        return Answer(200, [(b"content-type", CONTENT_TYPE)], render(self._counters.totals()))

    async def _other_scope(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            raise InvalidRequest(f"expected HTTP, got {scope['type']}")
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})


async def _unless_gone(future: "asyncio.Future[Answer]", receive: Receive) -> None:
    """Return when there is an answer; raises ``Disconnected`` when the client goes first.

    Only for dear models: a cheap one answers before anybody could go.
    """
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait((future, gone), return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise Disconnected
    finally:
        gone.cancel()
