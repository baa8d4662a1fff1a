"""gRPC beside HTTP: the inference service, standard health and reflection, on a port of their own."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from engine.config import Serve
from engine.errors import InvalidRequest, PortTaken, TandemError
from engine.realtime.doors.answers import sentence
from engine.realtime.doors.metadata import index_entry, model_config, model_metadata, server_metadata
from engine.realtime.doors.statuses import grpc_code, http_status
from engine.realtime.grpc.door import is_large, read, write
from engine.realtime.grpc.messages import METHODS, POOL, SERVICE, STREAM, message
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.served import ServedModel, server_timing

log = logging.getLogger(__name__)

FINAL = "triton_final_response"
"""A parameter of answers in a stream: there is one answer to each request."""
Handler = Callable[[Any, Any], Awaitable[Any]]
T = TypeVar("T")
_infer_request = message("ModelInferRequest").FromString


class Received(NamedTuple):
    """A ``ModelInferRequest`` and how many bytes it was."""

    request: Any
    n_bytes: int


class GrpcServer:
    """The service over an app's models, within the running event loop.

    Args:
        app: Its models are served.
        settings: Host, port and limits.
        shared: Other processes listen on the port as well.
    """

    def __init__(self, app: ScoringApp, settings: Serve, *, shared: bool) -> None:
        self._app = app
        self._settings = settings
        self._shared = shared
        self._server: Any = None
        self._health: Any = None
        self.port = 0

    async def start(self) -> None:
        """Listen and answer; raises ``PortTaken``."""
        self._server = aio.server(
            options=[
                ("grpc.so_reuseport", int(self._shared)),
                ("grpc.max_receive_message_length", self._settings.max_body_bytes),
                ("grpc.max_send_message_length", -1),
            ]
        )
        self._server.add_generic_rpc_handlers((_handlers(Service(self._app, self._settings.max_rows)),))
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        _reflect(self._server)
        address = f"{self._settings.host}:{self._settings.grpc_port}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise PortTaken(f"cannot listen on {address} for gRPC; choose another grpc_port") from error
        await self._server.start()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Say so, let calls under way end, then close."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.drain_s)


class Service:
    """``inference.GRPCInferenceService``: one coroutine per method, named like it."""

    def __init__(self, app: ScoringApp, max_rows: int) -> None:
        self._app = app
        self._max_rows = max_rows
        self._types = {method: message(f"{method}Response") for method in METHODS}
        self._stream_type = message(f"{STREAM}Response")

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        return self._types["ServerLive"](live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        return self._types["ServerReady"](ready=not self._app.draining)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        self._app.model(request.name, request.version)
        return self._types["ModelReady"](ready=True)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        return self._types["ServerMetadata"](**server_metadata())

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        revision = self._app.model(request.name, request.version).revision
        return self._types["ModelMetadata"](**model_metadata(revision))

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        revision = self._app.model(request.name, request.version).revision
        return self._types["ModelConfig"](config=model_config(revision))

    async def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        statistics = self._app.statistics(request.name, request.version)
        return self._types["ModelStatistics"](model_stats=statistics)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        _refuse_repository(request.repository_name)
        await self._app.load(request.model_name, request.parameters)
        return self._types["RepositoryModelLoad"]()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        self._app.unload(request.model_name)

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        _refuse_repository(request.repository_name)
        return self._types["RepositoryIndex"](models=[index_entry(r) for r in self._app.revisions()])

    async def ModelInfer(self, received: Received, context: Any) -> Any:  # noqa: D102, N802
        request = received.request
        model = self._app.model(request.model_name, request.model_version)
        status, arrived_s = 500, time.perf_counter()
        self._app.in_flight += 1
        model.counters.request_begun()
        try:
            response = await self._infer(model, received, arrived_s, context)
            status = 200
        except TandemError as error:
            status = http_status(error)
            raise
        except asyncio.CancelledError:
            status = 0
            raise
        finally:
            self._app.in_flight -= 1
            if status:
                model.counters.request_ended("grpc", status, time.perf_counter() - arrived_s)
            else:
                model.counters.request_left()
        return response

    async def _infer(self, model: ServedModel, received: Received, arrived_s: float, context: Any) -> Any:
        request, revision = received.request, model.revision
        aside = model.aside if is_large(*received) else None
        timeout_s = context.time_remaining() or model.slo_s
        asked = await _done(partial(read, revision, request, timeout_s, self._max_rows), aside)
        decoded_s = time.perf_counter()
        result = await model.score(revision, asked, arrived_s)
        scored_s = time.perf_counter()
        response = await _done(partial(write, revision, asked, result), aside)
        total_s = model.count(result, (arrived_s, decoded_s, scored_s), asked.budget_s)
        name, value = server_timing(result.queue_s, result.score_s, total_s)
        context.set_trailing_metadata(((name.decode(), value.decode()),))
        return response

    async def ModelStreamInfer(self, requests: AsyncIterator[Received], context: Any) -> AsyncIterator[Any]:  # noqa: D102, N802
        async for received in requests:
            try:
                response = await self.ModelInfer(received, context)
                response.parameters[FINAL].bool_param = True
                yield self._stream_type(infer_response=response)
            except TandemError as error:
                yield self._stream_type(
                    error_message=sentence(error), infer_response={"id": received.request.id}
                )


async def _done(work: Callable[[], T], aside: Executor | None) -> T:
    """What some work gives, done in a thread if there is one."""
    return work() if aside is None else await asyncio.get_running_loop().run_in_executor(aside, work)


def _received(raw: bytes) -> Received:
    return Received(_infer_request(raw), len(raw))


def _refuse_repository(name: str) -> None:
    if name:
        raise InvalidRequest(f"no repository '{name[:80]}'; there is one, without a name")


def _handlers(service: Service) -> Any:
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(
            _translated(getattr(service, method)),
            request_deserializer=_deserializer(method),
            response_serializer=message(f"{method}Response").SerializeToString,
        )
        for method in METHODS
    }
    handlers[STREAM] = grpc.stream_stream_rpc_method_handler(
        service.ModelStreamInfer,
        request_deserializer=_received,
        response_serializer=message(f"{STREAM}Response").SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _deserializer(method: str) -> Callable[[bytes], Any]:
    return _received if method == "ModelInfer" else message(f"{method}Request").FromString


def _translated(handler: Handler) -> Handler:
    """The handler, its errors as gRPC's codes."""

    async def answer(request: Any, context: Any) -> Any:
        try:
            return await handler(request, context)
        except TandemError as error:
            return await context.abort(grpc.StatusCode[grpc_code(error)], sentence(error))
        except Exception:
            log.exception("a call failed")
            return await context.abort(
                grpc.StatusCode.INTERNAL, "a bug in the engine; its log has the details"
            )

    return answer


def _reflect(server: Any) -> None:
    for module in (health_pb2, reflection_pb2):
        with contextlib.suppress(TypeError):
            POOL.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=POOL)
