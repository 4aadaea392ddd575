"""One exchange over HTTP/1.1: never blocks, follows no redirect, is bounded in time and size.

On h11, which uvicorn brings along: a whole HTTP client would be a large dependency in place of 60 lines.
"""

import asyncio
import ssl
from typing import Final
from urllib.parse import SplitResult, urlsplit

import h11
import msgspec

_CHUNK: Final = 16_384


class ExchangeFailed(Exception):
    """There is no answer to use; the message says why."""


class Question(msgspec.Struct, frozen=True):
    """What is sent, beside the headers that every request has."""

    method: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Answer(msgspec.Struct, frozen=True):
    """What came back. `body` is empty where none was asked for, and with every status but 200."""

    status: int
    body: bytes = b""


async def trusted() -> ssl.SSLContext:
    """Whom this machine trusts: reading it is 20 ms of disk and CPU, beside the loop. ExchangeFailed."""
    try:
        return await asyncio.to_thread(ssl.create_default_context)
    except OSError as error:
        raise ExchangeFailed(f"whom this machine trusts cannot be read: {error}") from error


async def exchange(
    url: str,
    question: Question,
    *,
    timeout_s: float,
    most_bytes: int = 0,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Ask, and take up to `most_bytes` of an answer of 200; none: the status is all that is waited for.

    `tls` for https: as `trusted` had it, else it is asked now. ExchangeFailed, after `timeout_s` at the
    latest.
    """
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(timeout_s):
            if parts.scheme == "https":
                tls = tls or await trusted()
            return await _exchange(parts, question, most_bytes, tls if parts.scheme == "https" else None)
    except TimeoutError as error:
        raise ExchangeFailed(f"no answer within {timeout_s:g} s") from error
    except (OSError, UnicodeError, h11.ProtocolError) as error:
        raise ExchangeFailed(f"{type(error).__name__}: {error}") from error


async def _exchange(
    parts: SplitResult, question: Question, most_bytes: int, tls: ssl.SSLContext | None
) -> Answer:
    port = parts.port or (443 if tls else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls, limit=_CHUNK)
    try:
        connection = h11.Connection(h11.CLIENT)
        writer.write(connection.send(_request(parts, question)) or b"")
        if question.body:
            writer.write(connection.send(h11.Data(data=question.body)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        return await _answer(connection, reader, most_bytes)
    finally:
        # Nothing more is wanted from the peer, so there is no goodbye to wait for.
        writer.transport.abort()


def _request(parts: SplitResult, question: Question) -> h11.Request:
    length = [("Content-Length", str(len(question.body)))] if question.body else []
    return h11.Request(
        method=question.method,
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        headers=[
            ("Host", parts.netloc),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "session-gateway"),
            ("Connection", "close"),
            *length,
            *question.headers,
        ],
    )


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader, most_bytes: int) -> Answer:
    body = bytearray()
    while True:
        event = connection.next_event()
        match event:
            case h11.NEED_DATA:
                connection.receive_data(await reader.read(_CHUNK))
            case h11.Response(status_code=status):
                # A redirect is an answer like any other: it could lead anywhere, also to where nothing is
                # protected on its way.
                if status != 200 or most_bytes == 0:
                    return Answer(status)
            case h11.Data(data=data):
                body += data
                if len(body) > most_bytes:
                    raise ExchangeFailed(f"the answer is larger than {most_bytes} bytes")
            case h11.EndOfMessage():
                return Answer(200, bytes(body))
            case h11.ConnectionClosed():
                raise ExchangeFailed("the connection was closed before the answer was complete")
