"""A real HTTP server that takes events, well or badly."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.waiting import until

Way = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Request(NamedTuple):
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.body)["events"]
        return found

    @property
    def ids(self) -> list[int]:
        return [event["id"] for event in self.events]


def status(number: int, headers: str = "") -> Way:
    """Answer with this status."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {number} Whatever\r\nContent-Length: 0\r\n{headers}\r\n".encode())
        await writer.drain()

    return answer


async def cut(writer: asyncio.StreamWriter) -> None:
    """Break the connection in the middle of the first line."""
    writer.write(b"HTTP/1.1 2")
    await writer.drain()
    writer.transport.abort()


async def endless(writer: asyncio.StreamWriter) -> None:
    """Take it, and never stop talking about it."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
        await writer.drain()


async def hang(writer: asyncio.StreamWriter) -> None:
    """Say nothing, as long as anybody listens."""
    await writer.wait_closed()


class Receiver:
    """Keeps every request, and answers in the ways of its plan; when that is over, in its usual way."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Request] = []
        self.plan: list[Way] = []
        self.usual: Way = status(200)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/events?to=me"

    @property
    def taken(self) -> list[int]:
        """The ids of all events that came, repeats included."""
        return [id for request in self.requests for id in request.ids]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()
        await until(lambda: not self._open, what="the answers under way end")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])
                }
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests.append(Request(head[0].split()[1], headers, body))
                assert head[0].startswith("POST ")
                way = self.plan.pop(0) if self.plan else self.usual
                await way(writer)
        finally:
            self._open.discard(writer)
            writer.close()
