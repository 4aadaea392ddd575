"""What an HTTP client may make the gateway hold, by bytes that are no body."""

import asyncio
import contextlib
from pathlib import Path

from tests.process import GatewayProcess


async def test_endless_trailers_are_cut_and_not_kept(tmp_path: Path) -> None:
    async with GatewayProcess(tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = b"POST /nope HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        writer.write(head)
        trailer = b"x: y\r\n" * 10_000
        sent = 0
        # uvloop says RuntimeError of a write to what is closed already.
        with contextlib.suppress(ConnectionError, RuntimeError):
            while sent < 20_000_000:
                writer.write(trailer)
                await asyncio.wait_for(writer.drain(), 5)
                sent += len(trailer)
        assert sent < 20_000_000
        writer.close()
        with contextlib.suppress(ConnectionError):
            await reader.read()
