"""gRPC beside HTTP: the inference service, standard health and reflection, on a port of their own."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from engine.config import Serve
from engine.errors import InvalidRequest, NotFound, PortTaken, TandemError
from engine.realtime.doors.answers import Answer, sentence
from engine.realtime.doors.metadata import index_entry, model_config, model_metadata, server_metadata
from engine.realtime.doors.statuses import GRPC_CODES, grpc_code, http_status
from engine.realtime.futures import settle
from engine.realtime.grpc.messages import METHODS, POOL, SERVICE, STREAM, message
from engine.realtime.grpc.passage import GrpcPassage
from engine.realtime.grpc.transport import Call, CoreServer, unreadable
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.listener import MAX_AGE_S
from engine.realtime.serving.room import SHORT_BODY_BYTES, Held

INFER = "ModelInfer"
INFER_PATH, STREAM_PATH = f"/{SERVICE}/{INFER}", f"/{SERVICE}/{STREAM}"
CALLS_AT_ONCE = 128
"""Calls, streams among them, that one connection may have under way; its client keeps more to itself."""
FINAL = "triton_final_response"
"""A parameter of answers in a stream: there is one answer to each request."""
Handler = Callable[[Any, Any], Awaitable[Any]]
_infer_request = message("ModelInferRequest").FromString


class Received(NamedTuple):
    """A ``ModelInferRequest`` and how many bytes it was."""

    request: Any
    n_bytes: int


class GrpcServer:
    """The service over an app's models, within the running event loop.

    A connection older than ``max_age_s`` takes no more calls: its client is told so, and opens another for
    its next. Calls under way, and streams, have ``grace_s`` more before they end as UNAVAILABLE. Nothing else
    bounds how long a message may take to come: the core only ends a connection that has not answered a ping
    for a minute.

    Messages that have come share the app's room with HTTP's bodies. What has come of the others is with the
    core, and is bounded by connection only: ``CALLS_AT_ONCE`` messages of at most ``max_body_bytes``. A quota
    of the core's would bound them together, but grpcio gives nobody a way to set one.

    Args:
        app: Its models are served.
        settings: Host, port and limits.
        shared: Other processes listen on the port as well.
    """

    max_age_s = MAX_AGE_S
    grace_s = 60.0

    def __init__(self, app: ScoringApp, settings: Serve, *, shared: bool) -> None:
        self._app = app
        self._settings = settings
        self._shared = shared
        self._server: CoreServer | None = None
        self._health: Any = None
        self.port = 0

    async def start(self) -> None:
        """Listen and answer; raises ``PortTaken``."""
        service = Service(self._app, self._settings.max_rows)
        options = (
            ("grpc.so_reuseport", int(self._shared)),
            ("grpc.max_connection_idle_ms", int(1000 * self._settings.keep_alive_s)),
            ("grpc.max_connection_age_ms", int(1000 * self.max_age_s)),
            ("grpc.max_connection_age_grace_ms", int(1000 * self.grace_s)),
            ("grpc.max_concurrent_streams", CALLS_AT_ONCE),
            ("grpc.max_receive_message_length", self._settings.max_body_bytes),
            ("grpc.max_send_message_length", -1),
        )
        server = self._server = CoreServer(options, {f"/{SERVICE}/{INFER}": service.infer})
        server.add_registered_method_handlers(SERVICE, _handlers(service))
        self._health = Health()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        _reflect(server)
        address = f"{self._settings.host}:{self._settings.grpc_port}"
        try:
            self.port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise PortTaken(f"cannot listen on {address} for gRPC; choose another grpc_port") from error
        server.start()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Say so, end streams, let calls under way end, then close."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.drain_s)


class Health(health.aio.HealthServicer):  # type: ignore[misc, name-defined]
    """The standard health service; who watches it has no request under way."""

    async def Watch(self, request: Any, context: Call) -> None:  # noqa: D102, N802
        with context.idle():
            await super().Watch(request, context)


class Service:
    """``inference.GRPCInferenceService``: one coroutine per method, named like it, but for ``infer``."""

    def __init__(self, app: ScoringApp, max_rows: int) -> None:
        self._app = app
        self._nothing_held = Held(app.room)
        self._max_rows = max_rows
        self._types = {method: message(f"{method}Response") for method in METHODS}
        self._stream_type = message(f"{STREAM}Response")

    async def ServerLive(self, request: Any, call: Call) -> Any:  # noqa: ARG002, D102, N802
        return self._types["ServerLive"](live=True)

    async def ServerReady(self, request: Any, call: Call) -> Any:  # noqa: ARG002, D102, N802
        return self._types["ServerReady"](ready=not self._app.draining)

    async def ModelReady(self, request: Any, call: Call) -> Any:  # noqa: ARG002, D102, N802
        ready = not self._app.draining
        try:
            self._app.model(request.name, request.version)
        except NotFound:  # who polls for a model wants no error, but to hear of it
            ready = False
        return self._types["ModelReady"](ready=ready)

    async def ServerMetadata(self, request: Any, call: Call) -> Any:  # noqa: ARG002, D102, N802
        return self._types["ServerMetadata"](**server_metadata())

    async def ModelMetadata(self, request: Any, call: Call) -> Any:  # noqa: ARG002, D102, N802
        revision = self._app.model(request.name, request.version).revision
        return self._types["ModelMetadata"](**model_metadata(revision))

    async def ModelConfig(self, request: Any, call: Call) -> Any:  # noqa: ARG002, D102, N802
        revision = self._app.model(request.name, request.version).revision
        return self._types["ModelConfig"](config=model_config(revision))

    async def ModelStatistics(self, request: Any, call: Call) -> Any:  # noqa: ARG002, D102, N802
        statistics = self._app.statistics(request.name, request.version)
        return self._types["ModelStatistics"](model_stats=statistics)

    async def RepositoryModelLoad(self, request: Any, call: Call) -> Any:  # noqa: ARG002, D102, N802
        _refuse_repository(request.repository_name)
        await self._app.load(request.model_name, request.parameters)
        return self._types["RepositoryModelLoad"]()

    async def RepositoryModelUnload(self, request: Any, call: Call) -> Any:  # noqa: ARG002, D102, N802
        self._app.unload(request.model_name)

    async def RepositoryIndex(self, request: Any, call: Call) -> Any:  # noqa: ARG002, D102, N802
        _refuse_repository(request.repository_name)
        return self._types["RepositoryIndex"](models=[index_entry(r) for r in self._app.revisions()])

    def infer(self, call: Call, message: bytes) -> None:
        """``ModelInfer``, without a task for each."""
        try:
            if len(message) > SHORT_BODY_BYTES:
                self._app.room.check(len(message))  # before it is there twice
            received = _received(message)
            passage, held = self._begin(INFER_PATH, received, call.arrived_s, call, partial(_end, call))
        except TandemError as error:
            self._log(INFER_PATH, Answer(http_status(error), [], b""), call.arrived_s)
            call.fail(_code(error), sentence(error))
        except DecodeError as error:
            self._log(INFER_PATH, Answer(400, [], b""), call.arrived_s)
            call.fail(grpc.StatusCode.INVALID_ARGUMENT, unreadable(error))
        else:
            if not passage.done():
                call.on_leave = partial(self._give_up, passage, held)

    async def ModelStreamInfer(self, requests: AsyncIterator[Received], call: Call) -> AsyncIterator[Any]:  # noqa: D102, N802
        async for received in requests:
            try:
                answer = await self._answer(received, call)
            except TandemError as error:
                answer = Answer(http_status(error), [], sentence(error).encode())
            response = self._stream_type(infer_response={"id": received.request.id})
            if answer.status == 200:
                response.infer_response.MergeFromString(answer.body)
                response.infer_response.parameters[FINAL].bool_param = True
            else:
                response.error_message = answer.body.decode()
            yield response

    async def _answer(self, received: Received, call: Call) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        passage, held = self._begin(STREAM_PATH, received, time.perf_counter(), call, partial(settle, future))
        try:
            return await future
        finally:
            self._give_up(passage, held)

    def _begin(
        self,
        path: str,
        received: Received,
        arrived_s: float,
        call: Call,
        deliver: Callable[[Answer], None],
    ) -> tuple[GrpcPassage, Held]:
        """Begin to answer a request; raises ``NotFound`` or ``Overloaded``."""
        request, n_bytes = received
        model = self._app.model(request.model_name, request.model_version)
        held = self._nothing_held
        if n_bytes > SHORT_BODY_BYTES:
            held = Held(self._app.room)
            held.add(n_bytes)
        self._app.in_flight += 1
        passage = GrpcPassage(model, arrived_s, partial(self._delivered, path, arrived_s, deliver, held))
        passage.begin(request, n_bytes, call.time_remaining(), self._max_rows)
        return passage, held

    def _give_up(self, passage: GrpcPassage, held: Held) -> None:
        held.release()
        self._app.give_up(passage)

    def _delivered(
        self, path: str, arrived_s: float, deliver: Callable[[Answer], None], held: Held, answer: Answer
    ) -> None:
        held.release()
        self._app.in_flight -= 1
        self._log(path, answer, arrived_s)
        deliver(answer)

    def _log(self, path: str, answer: Answer, arrived_s: float) -> None:
        self._app.log_access("GRPC", path, answer, arrived_s)


def _end(call: Call, answer: Answer) -> None:
    call.set_trailing_metadata(tuple(answer.headers))
    if answer.status == 200:
        call.end(answer.body)
    else:
        call.fail(grpc.StatusCode[GRPC_CODES[answer.status]], answer.body.decode())


def _received(raw: bytes) -> Received:
    return Received(_infer_request(raw), len(raw))


def _refuse_repository(name: str) -> None:
    if name:
        raise InvalidRequest(f"no repository '{name[:80]}'; there is one, without a name")


def _handlers(service: Service) -> dict[str, Any]:
    handlers: dict[str, Any] = {
        method: grpc.unary_unary_rpc_method_handler(
            _translated(getattr(service, method)),
            request_deserializer=message(f"{method}Request").FromString,
            response_serializer=message(f"{method}Response").SerializeToString,
        )
        for method in METHODS
        if method != INFER
    }
    handlers[STREAM] = grpc.stream_stream_rpc_method_handler(
        service.ModelStreamInfer,
        request_deserializer=_received,
        response_serializer=message(f"{STREAM}Response").SerializeToString,
    )
    return handlers


def _code(error: TandemError) -> grpc.StatusCode:
    return grpc.StatusCode[grpc_code(error)]


def _translated(handler: Handler) -> Handler:
    """The handler, its errors as gRPC's codes."""

    async def answer(request: Any, call: Call) -> Any:
        try:
            return await handler(request, call)
        except TandemError as error:
            return await call.abort(_code(error), sentence(error))

    return answer


def _reflect(server: CoreServer) -> None:
    for module in (health_pb2, reflection_pb2):
        with contextlib.suppress(TypeError):
            POOL.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(names, pool=POOL)  # type: ignore[attr-defined]
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
