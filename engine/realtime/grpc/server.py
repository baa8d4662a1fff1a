"""gRPC beside HTTP: the inference service, standard health and reflection, on a port of their own."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from engine.config import Serve
from engine.errors import InvalidRequest, PortTaken, TandemError
from engine.realtime.doors.answers import sentence
from engine.realtime.doors.metadata import index_entry, model_config, model_metadata, server_metadata
from engine.realtime.doors.statuses import grpc_code, http_status
from engine.realtime.grpc.door import read, write
from engine.realtime.grpc.messages import METHODS, POOL, SERVICE, STREAM, message
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.served import ServedModel, server_timing

log = logging.getLogger(__name__)

FINAL = "triton_final_response"
"""A parameter of answers in a stream: there is one answer to each request."""
Handler = Callable[[Any, Any], Awaitable[Any]]


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

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: D102, N802
        model = self._app.model(request.model_name, request.model_version)
        status = 500
        self._app.in_flight += 1
        model.counters.request_begun()
        try:
            response = await self._infer(model, request, context)
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
                model.counters.request_ended("grpc", status)
            else:
                model.counters.request_left()
        return response

    async def _infer(self, model: ServedModel, request: Any, context: Any) -> Any:
        arrived_s = time.perf_counter()
        revision = model.revision
        asked = read(revision, request, context.time_remaining() or model.slo_s, self._max_rows)
        decoded_s = time.perf_counter()
        result = await model.score(revision, asked, arrived_s)
        scored_s = time.perf_counter()
        response = write(revision, asked, result)
        total_s = model.count(result, (arrived_s, decoded_s, scored_s), asked.budget_s)
        name, value = server_timing(result.queue_s, result.score_s, total_s)
        context.set_trailing_metadata(((name.decode(), value.decode()),))
        return response

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: D102, N802
        async for request in requests:
            try:
                response = await self.ModelInfer(request, context)
                response.parameters[FINAL].bool_param = True
                yield self._stream_type(infer_response=response)
            except TandemError as error:
                yield self._stream_type(error_message=sentence(error), infer_response={"id": request.id})


def _refuse_repository(name: str) -> None:
    if name:
        raise InvalidRequest(f"no repository '{name[:80]}'; there is one, without a name")


def _handlers(service: Service) -> Any:
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(
            _translated(getattr(service, method)),
            request_deserializer=message(f"{method}Request").FromString,
            response_serializer=message(f"{method}Response").SerializeToString,
        )
        for method in METHODS
    }
    handlers[STREAM] = grpc.stream_stream_rpc_method_handler(
        service.ModelStreamInfer,
        request_deserializer=message("ModelInferRequest").FromString,
        response_serializer=message(f"{STREAM}Response").SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


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
