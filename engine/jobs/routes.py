"""The jobs of an engine over REST, for one controller; the whole is an ASGI app with its own loop of work."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from engine.errors import BodyTooLarge, Conflict, InvalidRequest, NotFound, Refused, TandemError
from engine.jobs.controller import Controller
from engine.jobs.job import JobRequest

MAX_BODY_BYTES = 1 << 20
MAX_LOG_BYTES = 1 << 20
"""Of a longer log, its end is shown."""
STATUSES: tuple[tuple[type[TandemError], int], ...] = (
    (BodyTooLarge, 413), (NotFound, 404), (InvalidRequest, 400), (Conflict, 409), (Refused, 429),
)  # fmt: skip


class JobRoutes:
    """``/v1/jobs`` and what lies below it."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def app(self) -> Starlette:
        """The ASGI app; its lifespan runs and closes the controller."""
        routes = [
            Route("/v1/jobs", self.submit, methods=["POST"]),
            Route("/v1/jobs", self.jobs, methods=["GET"]),
            Route("/v1/jobs/{job}", self.status, methods=["GET"]),
            Route("/v1/jobs/{job}/logs", self.log, methods=["GET"]),
            Route("/v1/jobs/{job}/cancel", self.cancel, methods=["POST"]),
            Route("/v1/jobs/{job}/resume", self.resume, methods=["POST"]),
        ]
        return Starlette(
            routes=routes,
            lifespan=self._lifespan,
            exception_handlers={TandemError: _error_answer, HTTPException: _no_route},  # type: ignore[dict-item]
        )

    async def submit(self, request: Request) -> Response:
        """Take a ``JobRequest`` on; the same one twice is one job."""
        try:
            wanted = msgspec.json.decode(await _body(request), type=JobRequest)
        except msgspec.DecodeError as error:
            raise InvalidRequest(str(error)) from error
        return _answer(self._controller.submit(wanted), status=201)

    async def jobs(self, request: Request) -> Response:  # noqa: ARG002
        """All jobs, the newest first."""
        return _answer(self._controller.jobs())

    async def status(self, request: Request) -> Response:
        """A job and how far it is."""
        return _answer(await asyncio.to_thread(self._controller.status, request.path_params["job"]))

    async def log(self, request: Request) -> Response:
        """What the job's process wrote, as text."""
        path = self._controller.log(request.path_params["job"])
        text = path.read_bytes()[-MAX_LOG_BYTES:] if path.exists() else b""
        return PlainTextResponse(text)

    async def cancel(self, request: Request) -> Response:
        """Stop a job."""
        return _answer(self._controller.cancel(request.path_params["job"]))

    async def resume(self, request: Request) -> Response:
        """Go on with a failed or cancelled job."""
        return _answer(self._controller.resume(request.path_params["job"]))

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002
        work = asyncio.create_task(self._controller.run())
        yield
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        await self._controller.close()


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"expected a job of at most {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _answer(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def _error_answer(request: Request, error: TandemError) -> Response:  # noqa: ARG001
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
    answer = _answer({"error": str(error)}, status)
    if isinstance(error, Refused):
        answer.headers["retry-after"] = f"{math.ceil(error.retry_after_s)}"
    return answer


async def _no_route(request: Request, error: HTTPException) -> Response:
    sentence = f"{error.detail}: {request.method} {request.url.path}; jobs are at /v1/jobs"
    return _answer({"error": sentence}, error.status_code)
