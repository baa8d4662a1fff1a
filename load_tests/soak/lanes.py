"""The two ways to the engine that a user of a soak holds: an HTTP/1.1 connection and a gRPC channel."""

import asyncio
from typing import Protocol

import grpc

from load_tests.fast.http_answer import Answer, parse_answer
from load_tests.payloads.grpc_request import METHOD, STATUSES

READ_BYTES = 1 << 17


class Lane(Protocol):
    """A way to send one request after the other."""

    async def ask(self, request: bytes) -> Answer:
        """Send a request; raises ``OSError`` or ``ValueError`` where no answer comes."""

    async def close(self) -> None:
        """End it."""


class HttpLane:
    """A connection, opened anew when it was closed; requests are whole, head and body."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send a request and read its answer."""
        try:
            reader, writer = await self._open()
            writer.write(request)
            answer = await _answer(reader)
        except BaseException:
            await self.close()
            raise
        if answer.closes:
            await self.close()
        return answer

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection:
            self._connection[1].close()
        self._connection = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._connection is None or self._connection[0].at_eof():
            await self.close()
            self._connection = await asyncio.open_connection(*self._address)
        return self._connection


class GrpcLane:
    """A channel with a connection of its own, which connects anew by itself; requests are messages.

    A call waits for a connection, so that only one which was on the wire can be lost at a kill.
    """

    def __init__(self, host: str, port: int) -> None:
        self._channel = grpc.aio.insecure_channel(f"{host}:{port}", [("grpc.use_local_subchannel_pool", 1)])
        self._infer = self._channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)

    async def ask(self, request: bytes) -> Answer:
        """Call ``ModelInfer``; its code as HTTP would have said it.

        A lost connection is ``UNAVAILABLE``, which the engine itself only says when it is ending: that is
        no refusal, but an answer that did not come.
        """
        try:
            return Answer(200, await self._infer(request, wait_for_ready=True), closes=False)
        except grpc.aio.AioRpcError as error:
            details = error.details() or error.code().name
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise ConnectionError(details) from error
            return Answer(STATUSES.get(error.code(), 500), details.encode(), closes=False)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close(None)


async def _answer(reader: asyncio.StreamReader) -> Answer:
    received = b""
    while True:
        content = await reader.read(READ_BYTES)
        if not content:
            raise ConnectionError("closed without an answer")
        received += content
        if answer := parse_answer(received):
            return answer
