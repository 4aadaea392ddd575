"""A TCP proxy between a store and its server, in which things go wrong when a test says so.

async with await FaultProxy.start(("127.0.0.1", redis.port), speech="resp") as proxy:
    drops = proxy.add(DropSome(0.2, seed=7))
    bus = RedisBus(proxy.url_of(redis.url), …)

With nothing added it passes everything on. For one Redis or Postgres: the clients of a cluster find the way
by themselves.
"""

import asyncio
import contextlib
import logging
import socket
import struct
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from loadtest.servers.faults import Cut, Fault
from loadtest.servers.wire import Cutter, Direction, Speech, Unit, cutters

F = TypeVar("F", bound=Fault)

_log: Final = logging.getLogger(__name__)

_READ_BYTES: Final = 64 * 1024
# What waits in the proxy for one direction of one connection; beyond it nothing more is read, so that the
# sender feels it. A message larger than this still passes, alone.
_QUEUE_BYTES: Final = 256 * 1024
# A reset instead of a close: what a peer sees of a machine that has lost its state.
_RESET: Final = struct.pack("ii", 1, 0)


class FaultProxy:
    """Connections to `port` become connections to the server. Faults concern open and new ones."""

    def __init__(self, upstream: tuple[str, int], speech: Speech) -> None:
        self.upstream = upstream
        self.port = 0
        self.accepted = 0
        self.cuts = 0
        self._faults: list[Fault] = []
        self.is_refusing = False
        self.speech: Speech = speech
        self._gates = {direction: Gate() for direction in Direction}
        self._links: dict[asyncio.Task[None], Link] = {}
        self._server: asyncio.Server | None = None

    @classmethod
    async def start(cls, upstream: tuple[str, int], *, speech: Speech = "bytes") -> "FaultProxy":
        """Listen on a port of 127.0.0.1, for connections to `upstream`."""
        proxy = cls(upstream, speech)
        proxy._server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0, limit=_READ_BYTES)
        proxy.port = proxy._server.sockets[0].getsockname()[1]
        return proxy

    def url_of(self, url: str) -> str:
        """Return the URL with this proxy in place of the server."""
        parts = urlsplit(url)
        if "+cluster" in parts.scheme:
            raise ValueError(
                "The nodes of a Redis Cluster name each other: a proxy before one of them is passed by"
            )
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{self.port}"))

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._links)

    # -- faults of units

    def add(self, fault: F) -> F:
        """Let a fault judge all units from now on, after those added before it."""
        self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Let it judge no more. What it keeps back is lost."""
        self._faults.remove(fault)

    # -- faults of the way

    def delay(self, seconds: float, *directions: Direction) -> None:
        """Let all that comes from now on arrive later by this, in order; both ways if none is named."""
        for direction in directions or Direction:
            self._gates[direction].delay_s = seconds

    def limit(self, bytes_per_s: float | None, *directions: Direction) -> None:
        """Let no connection carry more than this; None lifts the limit."""
        for direction in directions or Direction:
            self._gates[direction].bytes_per_s = bytes_per_s

    def hold(self, *directions: Direction) -> None:
        """Let nothing pass: connections are accepted and stay open, and nothing comes, until `release`."""
        for direction in directions or Direction:
            self._gates[direction].opened.clear()

    def release(self, *directions: Direction) -> None:
        """Let pass what was held, and what comes."""
        for direction in directions or Direction:
            self._gates[direction].opened.set()

    def black_hole(self) -> None:
        """Accept, read nothing, answer nothing, until `heal`."""
        self.hold()

    def refuse(self) -> None:
        """Reset whoever connects, until `heal`. Open connections stay: see `cut_all`."""
        self.is_refusing = True

    def heal(self) -> None:
        """Take back everything that was done to the way; faults of units stay."""
        self.is_refusing = False
        for gate in self._gates.values():
            gate.delay_s, gate.bytes_per_s = 0.0, None
            gate.opened.set()

    def cut_all(self) -> int:
        """Reset all open connections, on both sides; how many."""
        links = dict(self._links)
        for task, link in links.items():
            # At once for the peers; the task ends a turn later, also where it waits for a gate.
            link.reset()
            task.cancel()
        return len(links)

    # -- its life

    async def close(self) -> None:
        """Listen no more, reset what is open, and wait until all is over."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._links)
        self.cut_all()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- how

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            _reset(writer)
            return
        self.accepted += 1
        link = Link(self, self.accepted, reader, writer)
        task = asyncio.create_task(link.run(self._gates), name=f"proxied connection {self.accepted}")
        self._links[task] = link
        task.add_done_callback(self._links.pop)

    def judged(self, unit: Unit, connection: int, direction: Direction) -> Sequence[Unit]:
        """Let all faults judge a unit, each what the one before it let pass. Cut."""
        units: Sequence[Unit] = (unit,)
        for fault in self._faults:
            units = [passed for each in units for passed in fault.judge(each, connection, direction)]
        return units


class Gate:
    """What holds for one direction of all connections of a proxy."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.opened.set()
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None


class Link:
    """One connection of a client, and the one to the server that belongs to it."""

    def __init__(
        self, proxy: FaultProxy, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._number = number
        self._reader = reader
        self._writers = [writer]

    async def run(self, gates: dict[Direction, Gate]) -> None:
        """Carry bytes until both sides have ended, one has failed, or the link is cut."""
        try:
            await gates[Direction.TO_SERVER].opened.wait()
            reader, writer = await asyncio.open_connection(*self._proxy.upstream, limit=_READ_BYTES)
            self._writers.append(writer)
            cut = cutters(self._proxy.speech)
            ends = {
                Direction.TO_SERVER: (self._reader, writer),
                Direction.TO_CLIENT: (reader, self._writers[0]),
            }
            async with asyncio.TaskGroup() as pumps:
                for direction, (source, sink) in ends.items():
                    pump = Pump(source, sink, gates[direction])
                    pumps.create_task(pump.read(self, cut[direction], direction))
                    pumps.create_task(pump.write())
            await self._finish()
        except* Cut:
            self._proxy.cuts += 1
        except* OSError as errors:
            # A server that is gone resets: the client sees the same of it through the proxy.
            _log.info("connection %d ended: %s", self._number, errors.exceptions)
        finally:
            self.reset()

    def pass_on(self, unit: Unit, direction: Direction) -> Sequence[Unit]:
        """Return what becomes of a unit. Cut."""
        return self._proxy.judged(unit, self._number, direction)

    def reset(self) -> None:
        """Reset both sides, unless they are closed."""
        for writer in self._writers:
            _reset(writer)

    async def _finish(self) -> None:
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class Pump:
    """One direction of a link: a queue of bounded size between a reader and a writer."""

    def __init__(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: Gate) -> None:
        self._source = source
        self._sink = sink
        self._gate = gate
        self._queue: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._is_over = False
        self._changed = asyncio.Event()

    async def read(self, link: Link, cutter: Cutter, direction: Direction) -> None:
        """Take what comes, have it judged, and queue what passes."""
        now = asyncio.get_running_loop().time
        while data := await self._source.read(_READ_BYTES):
            for unit in cutter.feed(data):
                for passed in link.pass_on(unit, direction):
                    self._queue.append((now() + self._gate.delay_s, passed.data))
                    self._bytes += len(passed.data)
            self._changed.set()
            while self._bytes >= _QUEUE_BYTES:
                self._changed.clear()
                await self._changed.wait()
        self._is_over = True
        self._changed.set()

    async def write(self) -> None:
        """Let go what is due, at the rate that is allowed."""
        now = asyncio.get_running_loop().time
        while True:
            while not self._queue:
                if self._is_over:
                    if self._sink.can_write_eof() and not self._sink.is_closing():
                        self._sink.write_eof()
                    return
                self._changed.clear()
                await self._changed.wait()
            due, data = self._queue[0]
            if (left := due - now()) > 0:
                await asyncio.sleep(left)
            await self._gate.opened.wait()
            self._sink.write(data)
            await self._sink.drain()
            self._queue.popleft()
            self._bytes -= len(data)
            self._changed.set()
            if self._gate.bytes_per_s is not None:
                await asyncio.sleep(len(data) / self._gate.bytes_per_s)


def _reset(writer: asyncio.StreamWriter) -> None:
    transport = writer.transport
    if transport.is_closing():
        return
    peer = transport.get_extra_info("socket")
    if peer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
