"""One GET over HTTP/1.1, for key sets: never blocks, follows no redirect, is bounded in time and size.

On h11, which uvicorn brings along: a whole HTTP client would be a large dependency in place of 40 lines.
"""

import asyncio
import ssl
from typing import Final
from urllib.parse import SplitResult, urlsplit

import h11

_CHUNK: Final = 16_384


class FetchFailed(Exception):
    """There is no answer to use; the message says why."""


async def fetch(url: str, *, timeout_s: float, most_bytes: int) -> bytes:
    """Get the body behind the URL. FetchFailed, after `timeout_s` at the latest."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(timeout_s):
            return await _get(parts, most_bytes)
    except TimeoutError as error:
        raise FetchFailed(f"no answer within {timeout_s:g} s") from error
    except (OSError, h11.ProtocolError) as error:
        raise FetchFailed(f"{type(error).__name__}: {error}") from error


async def _get(parts: SplitResult, most_bytes: int) -> bytes:
    secure = parts.scheme == "https"
    # Reading the trusted certificates takes some 20 ms of disk and CPU.
    context = await asyncio.to_thread(ssl.create_default_context) if secure else None
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or (443 if secure else 80), ssl=context, limit=_CHUNK
    )
    try:
        connection = h11.Connection(h11.CLIENT)
        writer.write(connection.send(_request(parts)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        return await _body(connection, reader, most_bytes)
    finally:
        # Nothing more is wanted from the peer, so there is no goodbye to wait for.
        writer.transport.abort()


def _request(parts: SplitResult) -> h11.Request:
    return h11.Request(
        method="GET",
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        headers=[
            ("Host", parts.netloc),
            ("Accept", "application/jwk-set+json, application/json"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "session-gateway"),
            ("Connection", "close"),
        ],
    )


async def _body(connection: h11.Connection, reader: asyncio.StreamReader, most_bytes: int) -> bytes:
    body = bytearray()
    while True:
        event = connection.next_event()
        match event:
            case h11.NEED_DATA:
                connection.receive_data(await reader.read(_CHUNK))
            case h11.Response(status_code=status):
                # A redirect could lead anywhere, also to where the keys are not protected on their way.
                if status != 200:
                    raise FetchFailed(f"the answer is {status}, not 200")
            case h11.Data(data=data):
                body += data
                if len(body) > most_bytes:
                    raise FetchFailed(f"the answer is larger than {most_bytes} bytes")
            case h11.EndOfMessage():
                return bytes(body)
            case h11.ConnectionClosed():
                raise FetchFailed("the connection was closed before the answer was complete")
