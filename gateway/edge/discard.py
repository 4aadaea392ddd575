"""What reads a connection whose peer has broken the rules: throws everything away until the peer closes."""

import asyncio
from typing import Final, Protocol

# The largest message a peer may have been in the middle of sending when it was told to stop. Beyond that it
# does not listen.
_MAX_BYTES: Final = 16 * 1024 * 1024

# Shared by all: nobody reads it.
_WASTE: Final = memoryview(bytearray(64 * 1024))


class Ended(Protocol):
    """Who wants to know of the end."""

    def lost(self) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Discard(asyncio.BufferedProtocol):
    """Reads and forgets. The wheel ends it in bounded time."""

    __slots__ = ("_bytes", "_socket", "_transport")

    def __init__(self, socket: Ended, transport: asyncio.Transport) -> None:
        self._socket = socket
        self._transport = transport
        self._bytes = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        return _WASTE

    def buffer_updated(self, nbytes: int) -> None:
        self._bytes += nbytes
        if self._bytes > _MAX_BYTES:
            self._transport.abort()

    def eof_received(self) -> None:
        """None: the transport closes itself."""

    def pause_writing(self) -> None:
        self._socket.pause_writing()

    def resume_writing(self) -> None:
        self._socket.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._socket.lost()
