"""A real HTTP server that publishes keys, well or badly."""

import asyncio
import contextlib
import json
import ssl
from types import TracebackType
from typing import Self

from tests.waiting import until


class Publisher:
    """Serves `keys`, or `body` when set; counts how often it was asked."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.keys: list[dict[str, object]] = []
        self.body: bytes | None = None
        self.status = 200
        self.asked = 0
        self.drip = False
        self.silent = False
        self.cut = False
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{port}/.well-known/jwks.json"

    def hold(self) -> None:
        """Answer nobody before `release`."""
        self._may_answer.clear()

    def release(self) -> None:
        self._may_answer.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self.tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._may_answer.set()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()
        await until(lambda: not self._open, what="the answers under way end")

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
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
        self._open.discard(writer)
        writer.close()

    async def _drip(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        never = asyncio.Event()
        for position in range(len(body)):
            if writer.is_closing():
                return
            writer.write(body[position : position + 1])
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(never.wait(), 0.02)
