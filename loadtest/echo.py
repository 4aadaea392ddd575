"""The gateway's edge with an echo behind it, for conformance suites and speed runs.

The same server, upgrade, socket and outbox as the gateway's; nothing of sessions, stores or credentials.
`python -m loadtest.echo --port N`
"""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from math import inf

import click
import uvloop
from starlette.applications import Starlette
from starlette.types import ASGIApp

from gateway.edge.edge import Edge
from gateway.edge.frames import BINARY, TEXT, frame
from gateway.edge.handler import EdgeLimits, Handler, UpgradeRequest
from gateway.edge.upgrade import make_http_protocol, make_ws_protocol
from gateway.fanout.outlet import Outlet
from gateway.server import GatewayServer, listener, raise_file_limit


class Echo:
    """Sends every message back, in kind."""

    outlet: Outlet

    def on_open(self, outlet: Outlet) -> None:
        self.outlet = outlet

    def on_text(self, data: bytes, now: float) -> None:
        self.outlet.put(frame(TEXT, data))

    def on_binary(self, data: bytes, now: float) -> None:
        self.outlet.put(frame(BINARY, data))

    def on_rtt(self, ms: float) -> None:
        """Not of interest."""

    def on_drained(self) -> None:
        """Nothing was held back: replies are never refused."""

    def on_closed(self, code: int) -> None:
        """Nothing to clean up."""

    def check(self, now: float) -> float:
        return inf


class Broadcast(Echo):
    """Sends every message to everybody, as a chat's fan-out does: one frame, shared by all."""

    def __init__(self, room: set[Outlet]) -> None:
        self._room = room

    def on_open(self, outlet: Outlet) -> None:
        super().on_open(outlet)
        self._room.add(outlet)

    def on_text(self, data: bytes, now: float) -> None:
        shared = frame(TEXT, data)
        for outlet in self._room:
            outlet.put_message(shared)

    def on_closed(self, code: int) -> None:
        self._room.discard(self.outlet)


class EchoGateway:
    """What the gateway's own server serves here."""

    def __init__(self, limits: EdgeLimits, is_broadcast: bool = False) -> None:
        room: set[Outlet] = set()

        def accept(request: UpgradeRequest) -> Handler:
            return Broadcast(room) if is_broadcast else Echo()

        self.edge = Edge(limits, accept)
        self._http = make_http_protocol(self.edge)
        self._ws = make_ws_protocol(self.edge)

    @property
    def asgi(self) -> ASGIApp:
        return Starlette()

    @property
    def ops(self) -> ASGIApp:
        return Starlette()

    @property
    def http_protocol(self) -> type[asyncio.BaseProtocol]:
        return self._http

    @property
    def ws_protocol(self) -> type[asyncio.BaseProtocol]:
        return self._ws

    async def start(self) -> None:
        self.edge.start()

    def leave(self) -> None:
        """Nobody is to be kept out of an echo."""

    def hurry(self) -> None:
        """It waits for nobody."""

    async def drain(self) -> None:
        await self.edge.stop()

    async def stop(self) -> None:
        await self.edge.stop()


async def serve(gateway: EchoGateway, host: str, port: int) -> None:
    """Serve until told to stop."""
    raise_file_limit()
    server = GatewayServer(gateway, drain_s=0)
    with listener(host, port, "--port") as bound, _stopping(server):
        await gateway.start()
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        await server.has_started.wait()
        click.echo(f"ws://{host}:{bound.getsockname()[1]}{gateway.edge.limits.path}")
        await serving
        await gateway.stop()


@contextlib.contextmanager
def _stopping(server: GatewayServer) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.ask_to_stop)
    yield
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=9001, show_default=True, help="0 takes a free one and prints it.")
@click.option("--path", default="/ws", show_default=True)
@click.option("--broadcast", is_flag=True, help="Send every message to all connections instead of back.")
@click.option("--message-bytes", default=16 * 1024 * 1024, show_default=True, help="Largest message.")
@click.option("--fragments", default=1_000_000, show_default=True, help="Most fragments of one message.")
@click.option("--connections", default=100_000, show_default=True, help="Most connections of one address.")
@click.option(
    "--pings", default=10, show_default=True, help="Control frames a second; twice as many at once."
)
@click.option("--outbox-bytes", default=64 * 1024 * 1024, show_default=True, help="Bound of a slow reader.")
def main(host: str, port: int, path: str, broadcast: bool, **options: int) -> None:
    """Echo WebSocket messages, text and binary, through the gateway's edge. The limits are wide."""
    limits = EdgeLimits(
        path=path,
        message_bytes=options["message_bytes"],
        fragments=options["fragments"],
        connections_per_address=options["connections"],
        accepts_per_s=options["connections"],
        pings_per_s=options["pings"],
        outbox_bytes=options["outbox_bytes"],
        outbox_frames=options["outbox_bytes"],
    )
    gateway = EchoGateway(limits, broadcast)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(gateway, host, port))


if __name__ == "__main__":
    main()
