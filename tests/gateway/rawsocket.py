"""A WebSocket client on a bare, blocking socket, which reads only when it is told to.

For peers that misbehave.
"""

import base64
import json
import os
import socket
import struct
import time
from types import TracebackType
from typing import Any, Self

_OPENING = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: session.v1\r\n\r\n"
)


class RawClient:
    """Connected, and through the handshake, from its construction on."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(10)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self._buffer = bytearray()
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(_OPENING.format(port=port, key=key).encode())
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        self._buffer = bytearray(rest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    @staticmethod
    def frame(opcode: int, payload: bytes) -> bytes:
        """One masked frame; the mask is zero, which is a mask too."""
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        return head + b"\0\0\0\0" + payload

    def say(self, frame: dict[str, Any]) -> None:
        """Send one text frame."""
        self.socket.sendall(self.frame(0x1, json.dumps(frame).encode()))

    def hello(self, token: str) -> dict[str, Any]:
        """Open with a token and wait for the welcome."""
        self.say({"type": "hello", "token": token})
        return self.until("welcome")

    def until(self, *types: str) -> dict[str, Any]:
        """Read up to the next frame of one of these types."""
        while True:
            opcode, payload = self.read()
            if opcode != 0x1:
                continue
            frame: dict[str, Any] = json.loads(payload)
            if frame["type"] in types:
                return frame

    def read(self) -> tuple[int, bytes]:
        """Read one frame: opcode and payload."""
        while (found := self._parse()) is None:
            self._receive()
        return found

    def read_messages(self, count: int, within_s: float) -> list[int]:
        """Read until so many message frames have come; their seqs."""
        deadline = time.monotonic() + within_s
        seqs: list[int] = []
        while len(seqs) < count:
            assert time.monotonic() < deadline, f"{len(seqs)} of {count} messages in {within_s} s"
            seqs.append(self.until("message")["seq"])
        return seqs

    def _receive(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionResetError("closed by the gateway")
        self._buffer += data

    def _parse(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(buffer) < 2 + width:
                return None
            size, start = int.from_bytes(buffer[2 : 2 + width], "big"), 2 + width
        if len(buffer) < start + size:
            return None
        payload = bytes(buffer[start : start + size])
        opcode = buffer[0] & 0x0F
        del buffer[: start + size]
        return opcode, payload
