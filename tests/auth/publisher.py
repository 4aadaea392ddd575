"""A real HTTP server that publishes keys, well or badly."""

import asyncio
import contextlib
import json
import ssl

from tests.http_server import HttpServer


class Publisher(HttpServer):
    """Serves `keys`, or `body` when set; counts how often it was asked."""

    path = "/.well-known/jwks.json"

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.keys: list[dict[str, object]] = []
        self.body: bytes | None = None
        self.status = 200
        self.asked = 0
        self.drip = False
        self.silent = False
        self.cut = False
        self._may_answer = asyncio.Event()
        self._may_answer.set()

    def hold(self) -> None:
        """Answer nobody before `release`."""
        self._may_answer.clear()

    def release(self) -> None:
        self._may_answer.set()

    def let_go(self) -> None:
        self.release()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        await self._may_answer.wait()
        if self.silent:
            raise ConnectionAbortedError
        body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
        length = f"Content-Length: {len(body)}\r\n\r\n"
        writer.write(f"HTTP/1.1 {self.status} Whatever\r\nLocation: {self.url}\r\n{length}".encode())
        if self.drip:
            await self._drip(body, writer)
        writer.write(body[: len(body) // 2] if self.cut else body)
        await writer.drain()

    async def _drip(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        never = asyncio.Event()
        for position in range(len(body)):
            if writer.is_closing():
                return
            writer.write(body[position : position + 1])
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(never.wait(), 0.02)
