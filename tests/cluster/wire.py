"""One WebSocket of a client: frames as dicts both ways, no task of its own, so that hundreds are cheap."""

import socket
import struct
from typing import Any, Final, Protocol

import orjson
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

# A page of history; the gateway's own frames are smaller.
FRAME_BYTES: Final = 16 << 20
HANDSHAKE_S: Final = 20.0

Frame = dict[str, Any]


class Hearer(Protocol):
    """Who sits at a wire."""

    def hear(self, wire: "Wire", frame: Frame) -> None:
        """A frame has come."""

    def lost(self, wire: "Wire") -> None:
        """The socket is gone."""

    def failed(self, error: Exception) -> None:
        """Hearing a frame raised: a bug of the test, which must not end as a lost connection."""


class Wire(WSListener):
    """One socket. `close_code` is known once it is gone; 1006 where no close frame was seen."""

    def __init__(self, hearer: Hearer) -> None:
        self.close_code = 1006
        self.close_reason = ""
        self._hearer = hearer
        self._transport: WSTransport | None = None

    async def open(self, url: str) -> None:
        """Connect. OSError, WSError, TimeoutError."""
        await ws_connect(
            lambda: self,
            url,
            extra_headers={"Sec-WebSocket-Protocol": "session.v1"},
            max_frame_size=FRAME_BYTES,
            websocket_handshake_timeout=HANDSHAKE_S,
        )

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def say(self, frame: Frame) -> None:
        """Send a frame; into the void when the socket is gone."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, orjson.dumps(frame))

    def close(self) -> None:
        """Say goodbye and close."""
        if self._transport is not None:
            self._transport.send_close()
            self._transport.disconnect()

    def vanish(self) -> None:
        """Reset the connection, as a process that dies with unread bytes or a cut cable's router does."""
        if self._transport is None or self._transport.is_disconnected:
            return
        transport = self._transport.underlying_transport
        own: socket.socket = transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def pause(self) -> None:
        """Read nothing more: what comes waits, first here, then at the other side."""
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.underlying_transport.pause_reading()

    def unpause(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.underlying_transport.resume_reading()

    # -- picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            payload = frame.get_payload_as_bytes()
            self.close_code = int.from_bytes(payload[:2]) if payload else 1005
            self.close_reason = payload[2:].decode()
            transport.disconnect()
        elif frame.msg_type is WSMsgType.TEXT:
            try:
                self._hearer.hear(self, orjson.loads(frame.get_payload_as_memoryview()))
            except Exception as error:
                self._hearer.failed(error)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None
        self._hearer.lost(self)
