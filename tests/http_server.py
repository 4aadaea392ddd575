"""A real HTTP server on a free port of this machine, whose answers are somebody else's."""

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self

from tests.waiting import until


class HttpServer:
    """Hands each connection to `answer`, and closes it behind; at its end no answer is under way."""

    path = "/"

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{port}{self.path}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read a request and answer it. A peer that goes ends it; so does ConnectionAbortedError."""
        raise NotImplementedError

    def let_go(self) -> None:
        """Have answers that wait for something come to their end."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.let_go()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()
        await until(lambda: not self._open, what="the answers under way end")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self.answer(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()
