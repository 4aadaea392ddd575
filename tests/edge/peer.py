"""A WebSocket peer that speaks in bytes, so that it can break every rule."""

import asyncio
import base64
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from typing import Self, cast

from tests.waiting import until as wait_until

KEY = base64.b64encode(b"sixteen bytes!!!").decode()

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_PATIENCE_S = 10.0


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x01\x02\x03\x04",
) -> bytes:
    """Build a frame as a client sends it; every part can be wrong."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0 if mask is None else 0x80
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    return head + payload if mask is None else head + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    """Apply a mask (RFC 6455 5.3)."""
    if not payload:
        return b""
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(len(payload))


def closing(code: int, reason: bytes = b"") -> bytes:
    """Build a client's close frame."""
    return client_frame(CLOSE, struct.pack("!H", code) + reason)


def request(
    *lines: str, path: str = "/ws", method: str = "GET", version: str = "1.1", **headers: str
) -> bytes:
    """Build a request for a WebSocket. `headers` replace the usual ones; empty ones are left out."""
    usual = {
        "host": "gateway.test",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": KEY,
    }
    usual |= {name.replace("_", "-"): value for name, value in headers.items()}
    fields = [f"{name}: {value}" for name, value in usual.items() if value]
    return "\r\n".join([f"{method} {path} HTTP/{version}", *fields, *lines, "", ""]).encode()


class Answer:
    """The head of an HTTP response."""

    def __init__(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }


class Peer:
    """One TCP connection to the server."""

    def __init__(
        self, sock: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.sock = sock
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int, receive_bytes: int | None = None) -> Self:
        """Open a TCP connection; `receive_bytes` is what the kernel keeps for a peer that does not read."""
        # asyncio turns Nagle's delay off only for sockets that say they are TCP.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        # A small limit: what is not asked for is left in the kernel.
        reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
        return cls(sock, reader, writer)

    def send(self, *data: bytes) -> None:
        """Send bytes, all in one piece."""
        self._writer.write(b"".join(data))

    async def ask(self, data: bytes) -> Answer:
        """Send an HTTP request and read the head of its answer."""
        self.send(data)
        return await self.answer()

    async def answer(self) -> Answer:
        """Read the head of an answer."""
        return Answer(await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), _PATIENCE_S))

    async def upgrade(self, *lines: str, **headers: str) -> Answer:
        """Shake hands."""
        answer = await self.ask(request(*lines, **headers))
        assert answer.status == 101, answer.status
        return answer

    async def read(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        return await asyncio.wait_for(self._reader.readexactly(size), _PATIENCE_S)

    async def frame(self) -> tuple[int, bytes]:
        """Read a frame of the server; check what holds for each."""
        first, second = await self.read(2)
        assert first & 0x70 == 0, "reserved bits"
        assert first & 0x80, "a server of ours does not fragment"
        assert second & 0x80 == 0, "a server does not mask"
        size = second
        if second == 126:
            size = int.from_bytes(await self.read(2))
        elif second == 127:
            size = int.from_bytes(await self.read(8))
        return first & 0x0F, await self.read(size)

    async def closed_with(self, *, answer: bool = False) -> int | None:
        """Read up to the close frame, and to the end of the connection behind it; None: no close frame.

        A fault needs no answer to end the connection; our own close does.
        """
        try:
            while True:
                opcode, payload = await self.frame()
                if opcode == CLOSE:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        if answer:
            self.send(client_frame(CLOSE, payload))
        await self.ended()
        return int.from_bytes(payload[:2]) if payload else 1005

    async def ended(self) -> None:
        """Wait for the end of what the server sends; AssertionError if it sends more."""
        try:
            rest = await asyncio.wait_for(self._reader.read(1), _PATIENCE_S)
        except ConnectionError:
            return
        assert rest == b"", "the server sent something behind its close frame"

    def half_close(self) -> None:
        """Send FIN."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Send RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def leave(self) -> None:
        """Close the TCP connection without a word."""
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def stop_reading(self) -> None:
        """Take nothing more out of the kernel."""
        cast(asyncio.Transport, self._writer.transport).pause_reading()

    def read_again(self) -> None:
        """Take what has gathered."""
        cast(asyncio.Transport, self._writer.transport).resume_reading()

    async def pour(self, data: bytes, *, until: Callable[[], bool]) -> None:
        """Send the same over and over, as fast as the kernel takes it, until something has happened."""

        def step() -> bool:
            transport = self._writer.transport
            if transport.get_write_buffer_size() < 2 * len(data):
                self._writer.write(data)
            return until()

        await wait_until(step)


def noise(size: int) -> bytes:
    """Some bytes."""
    return os.urandom(size)
