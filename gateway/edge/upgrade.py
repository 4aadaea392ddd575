"""From uvicorn's HTTP connection to our socket: `http=` and `ws=` of its settings, made for one edge.

Both are needed. uvicorn's own HTTP protocol drops what a client sends in one piece with the handshake, and
waits for ever for a request's end; ours keeps the first, and puts the second on the wheel.
"""

import http
import logging
import math
from collections.abc import Iterable
from math import inf
from typing import Any, ClassVar, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.edge.admission import Asked, address_of
from gateway.edge.edge import Edge
from gateway.edge.handler import Handler, Rejection, UpgradeRequest
from gateway.edge.socket import Socket

_BAD_REQUEST: Final = Rejection(400, "This is not HTTP.")
_TIMEOUT: Final = Rejection(408, "The request took too long.")
_HEAD_TOO_LARGE: Final = Rejection(431, "The request's head is too large.")
_TOO_LARGE: Final = Rejection(413, "The request is too large.")
_NOT_YET: Final = Rejection(400, "The request before this one has no answer yet.")
_BUSY: Final = "Too many connections at once."
_BUG: Final = Rejection(500, "Something went wrong here.")

_log = logging.getLogger(__name__)


def make_http_protocol(edge: Edge) -> type[HttpToolsProtocol]:
    """Make the class for uvicorn's `http=`."""
    return type("EdgeHttpProtocol", (_EdgeHttpProtocol,), {"edge": edge})


def make_ws_protocol(edge: Edge) -> type[Any]:
    """Make the class for uvicorn's `ws=`, which makes uvicorn recognise upgrades at all."""
    return _Marker


class _Marker:
    """Never made: the HTTP protocol of the edge builds the socket itself."""

    def __init__(self, **_: object) -> None:
        raise RuntimeError("ws=make_ws_protocol(edge) needs http=make_http_protocol(edge) beside it")


class _EdgeHttpProtocol(HttpToolsProtocol):
    """uvicorn's, with bounds on how long and how large a request may be, and with the way to our socket."""

    edge: ClassVar[Edge]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._bytes = 0  # of the present request
        self._is_head = True  # no complete request head yet
        self._patience = _Patience(self)
        self._is_in_line = False
        self._tail = b""  # what came with a request that waits in the line
        self._wait_for(self.edge.limits.handshake_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(_BAD_REQUEST)
        except httptools.HttpParserUpgrade as upgrade:
            # Another protocol than ours: RFC 9110 7.8 lets us ignore the wish; the request goes its usual
            # way.
            if self._should_upgrade():
                self._upgrade(data[upgrade.args[0] :])
        else:
            self._bytes += len(data)
            if self._is_head and self._bytes > self.edge.limits.request_head_bytes:
                self._refuse(_HEAD_TOO_LARGE)
            elif self._bytes > self.edge.limits.request_bytes:
                self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_head = True
        self._bytes = 0
        self._wait_for(self.edge.limits.handshake_s)

    def on_header(self, name: bytes, value: bytes) -> None:
        # RFC 9110 6.5.1: trailer fields may be discarded. uvicorn would keep all; nothing here reads them.
        if self._is_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_head = False
        self._wait_for(self.edge.limits.request_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        # From here on it is for the application to answer, and then for uvicorn's keep-alive to wait.
        self._patience.deadline = inf
        super().on_message_complete()

    def on_impatience(self) -> None:
        """The request, or the rest of it, did not come in time."""
        self.edge.counters.slow_requests += 1
        self._refuse(_TIMEOUT)

    def _wait_for(self, seconds: float) -> None:
        self._patience.deadline = self.edge.monotonic() + seconds
        self.edge.wheel.hasten(self._patience, self._patience.deadline)

    def _upgrade(self, tail: bytes) -> None:
        edge = self.edge
        if self._is_answering():
            # Its answer would come in the middle of our frames.
            self._reject(_NOT_YET)
            return
        try:
            asked = self._asked()
        except httptools.HttpParserError:
            self._reject(_BAD_REQUEST)
            return
        request = edge.admission.judge(asked)
        if isinstance(request, Rejection):
            self._reject(request)
            return
        self._is_in_line = True
        self._tail = tail
        address = address_of(request.ip)
        # One who waits is one of its address already, or the line would be full of a single one's.
        edge.admission.enter(address)
        put_off_s = edge.admission.line.join(lambda: self._enter(asked, request, address))
        if put_off_s is not None:
            edge.admission.leave(address)
            # Whole seconds are all that the header can say.
            self._reject(Rejection(503, _BUSY, retry_after_s=math.ceil(put_off_s)))
        elif self._is_in_line and len(tail) > edge.limits.request_head_bytes:
            # RFC 6455 4.1: a client awaits the answer before it sends. It has not, and we keep no more.
            self._tail = b""
            self._reject(_TOO_LARGE)
        elif self._is_in_line:
            # For 1.5 s at most; what else it sends stays in the kernel for as long.
            self.transport.pause_reading()

    def _enter(self, asked: Asked, request: UpgradeRequest, address: str) -> bool:
        """The turn of this request has come. Whether it has used its place."""
        self._is_in_line = False
        tail, self._tail = self._tail, b""
        self.edge.admission.leave(address)
        if self.transport.is_closing():
            return False
        self.transport.resume_reading()
        crowded = self.edge.admission.crowded(request.ip)
        if crowded is not None:
            self._reject(crowded)
            return False
        self._open(asked, request, tail)
        return True

    def _open(self, asked: Asked, request: UpgradeRequest, tail: bytes) -> None:
        edge = self.edge
        handler = self._handler_for(request)
        if isinstance(handler, Rejection):
            self._reject(handler)
            return
        subprotocol = edge.limits.subprotocol if edge.limits.subprotocol in request.subprotocols else None
        socket = Socket(edge, self.transport, handler, address_of(request.ip))
        self._let_go()
        socket.start(asked.headers["sec-websocket-key"], subprotocol, tail)

    def _handler_for(self, request: UpgradeRequest) -> Handler | Rejection:
        try:
            return self.edge.factory(request)
        except Exception:
            self.edge.counters.bugs += 1
            _log.exception("no handler for a connection")
            return _BUG

    def _asked(self) -> Asked:
        """Read what uvicorn has parsed. HttpParserError."""
        url = httptools.parse_url(self.url)
        headers: dict[str, str] = {}
        for name, value in self.headers:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        return Asked(
            method=self.scope["method"],
            path=unquote((url.path or b"").decode("latin-1")),
            query=(url.query or b"").decode("latin-1"),
            http_version=self.scope["http_version"],
            headers=headers,
            peer=self.client or ("", 0),
        )

    def _let_go(self) -> None:
        """Leave uvicorn's books, and break the circle with the parser."""
        self._patience.end()
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment]

    def _reject(self, rejection: Rejection) -> None:
        self.edge.counters.rejected[rejection.status] += 1
        self._refuse(rejection)

    def _refuse(self, rejection: Rejection) -> None:
        self._patience.deadline = inf
        if self.transport.is_closing():
            return
        if not (self._is_answering() and self.cycle.response_started):
            self.transport.write(_response(rejection, self.server_state.default_headers))
        self.transport.close()

    def _is_answering(self) -> bool:
        """Whether an earlier request on this connection still has no whole answer."""
        return self.cycle is not None and not self.cycle.response_complete


class _Patience:
    """The deadline of an HTTP connection: what the wheel holds, long after the connection may be gone."""

    __slots__ = ("_protocol", "deadline", "filed")

    def __init__(self, protocol: _EdgeHttpProtocol) -> None:
        self._protocol: _EdgeHttpProtocol | None = protocol
        self.deadline = inf
        self.filed = -1

    def end(self) -> None:
        """Let go of the connection."""
        self._protocol = None
        self.deadline = inf

    def check(self, now: float) -> float:
        if now >= self.deadline and self._protocol is not None:
            self.deadline = inf
            self._protocol.on_impatience()
        return self.deadline


def _response(rejection: Rejection, defaults: Iterable[tuple[bytes, bytes]]) -> bytes:
    body = rejection.reason.encode() + b"\n"
    head = [f"HTTP/1.1 {rejection.status} {http.HTTPStatus(rejection.status).phrase}".encode()]
    head += [name + b": " + value for name, value in defaults]
    head += [f"{name}: {value}".encode("latin-1") for name, value in rejection.headers]
    if rejection.retry_after_s is not None:
        head.append(b"retry-after: %d" % rejection.retry_after_s)
    head += [b"content-type: text/plain; charset=utf-8", b"content-length: %d" % len(body)]
    return b"\r\n".join([*head, b"connection: close", b"", body])
