"""Servers for the tests of the edge: uvicorn's protocols, the edge, and a handler that remembers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.server import ServerState

from gateway.edge.edge import Edge
from gateway.edge.frames import BINARY, TEXT, frame
from gateway.edge.handler import EdgeLimits, Handler, Rejection, UpgradeRequest
from gateway.edge.upgrade import make_http_protocol, make_ws_protocol
from gateway.fanout.outlet import Outlet
from tests.edge.peer import Peer
from tests.waiting import until

Start = Callable[..., Awaitable["Served"]]


class Clock:
    """The real monotonic clock, which can be pushed forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def push(self, seconds: float) -> None:
        self._ahead += seconds


class Recorder:
    """A handler that remembers everything and echoes messages, unless a test says what to do instead."""

    def __init__(self, request: UpgradeRequest) -> None:
        self.request = request
        self.outlet: Outlet
        self.texts: list[bytes] = []
        self.binaries: list[bytes] = []
        self.rtts: list[float] = []
        self.drained = 0
        self.closed: list[int] = []
        self.checks = 0
        self.due = inf
        self.act: Callable[[bytes], None] = lambda data: self.outlet.put(frame(TEXT, data))

    def on_open(self, outlet: Outlet) -> None:
        self.outlet = outlet

    def on_text(self, data: bytes, now: float) -> None:
        assert not self.closed
        self.texts.append(data)
        self.act(data)

    def on_binary(self, data: bytes, now: float) -> None:
        assert not self.closed
        self.binaries.append(data)
        self.outlet.put(frame(BINARY, data))

    def on_rtt(self, ms: float) -> None:
        self.rtts.append(ms)

    def on_drained(self) -> None:
        assert not self.closed
        self.drained += 1

    def on_closed(self, code: int) -> None:
        self.closed.append(code)

    def check(self, now: float) -> float:
        self.checks += 1
        return self.due


class Served:
    """A running server, and the handlers it made, in order."""

    def __init__(self, limits: EdgeLimits, clock: Clock) -> None:
        self.clock = clock
        self.handlers: list[Recorder] = []
        self.answer: Callable[[UpgradeRequest], Handler | Rejection] = self._record
        self.edge = Edge(limits, lambda request: self.answer(request), clock.monotonic)
        self.app = Starlette(routes=[Route("/plain", _plain, methods=["GET", "POST"])])
        self.http = make_http_protocol(self.edge)
        self.ws = make_ws_protocol(self.edge)
        self.port = 0
        self.connections: set[Any] = set()  # those of uvicorn: no WebSocket yet
        self._peers: list[Peer] = []

    async def dial(self, receive_bytes: int | None = None) -> Peer:
        """Open a TCP connection, which ends with the server."""
        peer = await Peer.connect(self.port, receive_bytes)
        self._peers.append(peer)
        return peer

    async def connect(self, receive_bytes: int | None = None, **headers: str) -> Peer:
        """Open a WebSocket."""
        peer = await self.dial(receive_bytes)
        await peer.upgrade(**headers)
        return peer

    async def hang_up(self) -> None:
        """Close every connection from the peers' side."""
        for peer in self._peers:
            await peer.leave()

    def forget(self) -> None:
        """Let go of peers that have hung up."""
        self._peers.clear()

    def pass_time(self, seconds: float) -> None:
        """Let every deadline of these seconds come."""
        self.clock.push(seconds)
        self.edge.wheel.turn()

    async def settle(self) -> None:
        """Return when the server has taken what was sent before: it answers a request that came later."""
        peer = await self.dial()
        answer = await peer.ask(b"GET /plain HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        await peer.read(int(answer.headers["content-length"]))
        await peer.ended()

    async def pair(self, receive_bytes: int | None = None) -> tuple[Peer, Recorder]:
        """Open a WebSocket; both of its ends."""
        peer = await self.connect(receive_bytes)
        return peer, self.handlers[-1]

    def _record(self, request: UpgradeRequest) -> Handler:
        recorder = Recorder(request)
        self.handlers.append(recorder)
        return recorder


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Start]:
    """Yield a function that starts servers; stop them all at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**limits: Any) -> Served:
            served = Served(EdgeLimits(**{"closing_s": 1.0, **limits}), Clock())
            await stack.enter_async_context(_running(served))
            return served

        yield start


@contextlib.asynccontextmanager
async def _running(served: Served) -> AsyncIterator[None]:
    # uvicorn.Server itself ticks every 100 ms; only its protocols are of interest here.
    config = uvicorn.Config(served.app, http=served.http, ws=served.ws, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    served.connections = state.connections

    def protocol() -> asyncio.Protocol:
        return served.http(config=config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    served.edge.start()
    try:
        yield
    finally:
        await served.hang_up()
        await served.edge.stop()
        server.close()
        await until(lambda: not state.connections and not state.tasks, what="plain connections ended")


async def _plain(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.method} {len(await request.body())}")
