"""A real HTTP server that takes events, well or badly."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from tests.http_server import HttpServer

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


class Receiver(HttpServer):
    """Keeps every request, and answers in the ways of its plan; when that is over, in its usual way."""

    path = "/events?to=me"

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.requests: list[Request] = []
        self.plan: list[Way] = []
        self.usual: Way = status(200)

    @property
    def taken(self) -> list[int]:
        """The ids of all events that came, repeats included."""
        return [id for request in self.requests for id in request.ids]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append(Request(head[0].split()[1], headers, body))
        assert head[0].startswith("POST ")
        way = self.plan.pop(0) if self.plan else self.usual
        await way(writer)
