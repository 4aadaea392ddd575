"""Frames from bytes, by picows. Only this module knows it; tests/edge/test_parser.py pins what is relied on.

picows parses, and no more: it speaks to a stand-in, not to the transport, so that writing, closing and timing
stay ours, and it never sees the file descriptor. What it leaves to its listener is kept in socket.py.
"""

import functools
import logging
from collections.abc import Callable
from typing import Final, Protocol, cast

from picows import (
    WSAutoPingStrategy,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from gateway.protocol.close import CloseCode

Frame = WSFrame
Listener = WSListener
Opcode = WSMsgType
Source = WSTransport

TEXT: Final = WSMsgType.TEXT
CONTINUATION: Final = WSMsgType.CONTINUATION
CLOSE: Final = WSMsgType.CLOSE
PING: Final = WSMsgType.PING
PONG: Final = WSMsgType.PONG

_HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
)
_ANY_KEY: Final = b"AAAAAAAAAAAAAAAAAAAAAA=="

_log = logging.getLogger(__name__)


class Reader(Protocol):
    """What reads for a transport: an asyncio.BufferedProtocol."""

    def get_buffer(self, sizehint: int, /) -> memoryview:
        """Where the next bytes go."""

    def buffer_updated(self, nbytes: int, /) -> None:
        """So many came."""


class Parsing(Protocol):
    """A socket, as far as its parser is concerned. It is a `Listener` too."""

    message_bytes: int

    def on_fault(self, code: CloseCode) -> None:
        """The bytes are no WebSocket frames, or too large; nothing more will be read."""


def open_parser(socket: Parsing, key: str, subprotocol: str | None, write: Callable[[bytes], None]) -> Reader:
    """Make a parser for a new connection and send the 101. The request has been checked."""
    return _parser(socket, _Wire(socket, write), key.encode(), subprotocol)


def fresh_parser(socket: Parsing) -> Reader:
    """Make a parser to go on with, between two frames; it has the smallest buffer again."""
    return _parser(socket, _Wire(socket, None), _ANY_KEY, None)


def feed(reader: Reader, data: bytes) -> bytes:
    """Have some bytes read; return the rest."""
    room = reader.get_buffer(-1)
    size = min(len(room), len(data))
    room[:size] = data[:size]
    reader.buffer_updated(size)
    return data[size:]


def buffer_bytes(reader: Reader) -> int:
    """How much room the buffer has: its size, unless it holds a part of a frame."""
    return len(reader.get_buffer(-1))


def _parser(socket: Parsing, wire: "_Wire", key: bytes, subprotocol: str | None) -> Reader:
    accepted = WSUpgradeResponseWithListener(_answer(subprotocol), socket)
    parser = WSProtocol(
        None,  # host_port, of clients
        None,  # ws_path, of clients
        False,  # is_client_side
        lambda request: accepted,
        _QUIET,
        True,  # disconnect_on_exception: the listener lets none out
        None,  # websocket_handshake_timeout: would be a call_later per connection
        False,  # enable_auto_ping: would be a task per connection
        None,
        None,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # enable_auto_pong: pongs have to be counted
        socket.message_bytes,
        None,  # extra_headers, of clients
        0,  # read_buffer_init_size: the least, which is 2 KiB
    )
    parser.connection_made(wire)
    feed(parser, _HANDSHAKE % key)
    # Kept for as long as the connection lives, and of no use: more than 1 KiB each.
    request = parser.transport.request
    request.headers = request.method = request.version = None
    return cast(Reader, parser)


@functools.cache
def _answer(subprotocol: str | None) -> WSUpgradeResponse:
    """The 101, one for all: each parser puts its own key into it, writes it at once, and keeps it."""
    offered = [("Sec-WebSocket-Protocol", subprotocol)] if subprotocol else None
    answer: WSUpgradeResponse = WSUpgradeResponse.create_101_response(offered)
    return answer


class _Wire:
    """What picows takes for its transport. It writes two things: the 101, and a close frame at a fault.

    picows would close the transport 10 ms after a fault. With bytes still unread the kernel then sends RST,
    and the peer never sees why.
    """

    __slots__ = ("_is_open", "_socket", "_write")

    def __init__(self, socket: Parsing, write: Callable[[bytes], None] | None) -> None:
        self._socket = socket
        self._write = write  # None: the 101 was sent long ago
        self._is_open = False

    def write(self, data: bytes | bytearray) -> None:
        if self._is_open:
            self._socket.on_fault(CloseCode(int.from_bytes(data[2:4], "big")))
            return
        self._is_open = True
        if self._write is not None:
            self._write(bytes(data))
            self._write = None

    def get_write_buffer_size(self) -> int:
        # Were it 0, picows would write to the file descriptor by itself.
        return 1

    def get_extra_info(self, name: str, default: object = None) -> object:
        return _NO_SOCKET if name == "socket" else default

    def close(self) -> None:
        """Comes 10 ms after a fault, which has been dealt with."""

    abort = close


class _NoSocket:
    """For the options that picows sets on each socket. The event loops set TCP_NODELAY themselves."""

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *args: object) -> None:
        """Nothing to set."""

    def getsockopt(self, *args: object) -> int:
        return 0


class _Quiet:
    """A logger for picows, which has a word for every connection, and makes a child of a logging.Logger."""

    def isEnabledFor(self, level: int) -> bool:
        return False

    def debug(self, *args: object) -> None:
        """What peers do is counted, not logged."""

    info = warning = error = log = debug

    def exception(self, message: str, *args: object) -> None:
        _log.exception(message, *args)


_NO_SOCKET: Final = _NoSocket()
_QUIET: Final = _Quiet()
