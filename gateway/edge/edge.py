"""The edge of one node: its sockets, its wheel, its counters. Knows nothing of what the messages say."""

import asyncio
import time
from collections.abc import Callable

from gateway.edge.admission import Admission
from gateway.edge.counters import Counters
from gateway.edge.deadlines import Wheel
from gateway.edge.gathering import Gathering
from gateway.edge.handler import EdgeLimits, HandlerFactory
from gateway.edge.outbox import Flusher
from gateway.edge.socket import Socket
from gateway.protocol.close import CloseCode


class Edge:
    """Everything the sockets of one node share. `start` and `stop` run on the loop that serves them."""

    def __init__(
        self, limits: EdgeLimits, factory: HandlerFactory, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self.factory = factory
        self.monotonic = monotonic
        self.counters = Counters()
        self.flusher = Flusher()
        self.wheel = Wheel(monotonic)
        self.gathering = Gathering(limits.gather_s, limits.crowd, self.counters)
        self.admission = Admission(limits, monotonic)
        self.sockets: set[Socket] = set()
        self._turning: asyncio.Task[None] | None = None
        self._emptied: asyncio.Event | None = None

    @property
    def draining(self) -> bool:
        """Set it to refuse upgrades with 503 while the open connections go on."""
        return self.admission.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self.admission.draining = value

    def start(self) -> None:
        """Begin to watch deadlines."""
        self._turning = asyncio.create_task(self.wheel.run(), name="edge wheel")

    async def stop(self) -> None:
        """Close every connection with 1001 and return when they are gone, within `closing_s`."""
        self.draining = True
        self._emptied = asyncio.Event()
        for socket in list(self.sockets):
            socket.close(CloseCode.GOING_AWAY, CloseCode.GOING_AWAY.reason)
        if not await self._empty(self.limits.closing_s):
            for socket in list(self.sockets):
                socket.abort()
            # Aborting takes a turn of the loop; a second is for a loop that is busy.
            await self._empty(1.0)
        self.gathering.stop()
        if self._turning is not None:
            self._turning.cancel()
            await asyncio.wait({self._turning})

    def drop(self) -> None:
        """Take back whatever waits to be sent."""
        for socket in self.sockets:
            socket.outbox.drop()

    # -- for the sockets

    def enter(self, socket: Socket) -> None:
        """A handshake is done."""
        self.sockets.add(socket)
        self.admission.enter(socket.address)
        self.counters.opened += 1
        self.counters.connections += 1

    def leave(self, socket: Socket) -> None:
        """A connection is over."""
        self.sockets.discard(socket)
        self.admission.leave(socket.address)
        self.counters.closed[socket.code] += 1
        self.counters.connections -= 1
        if self._emptied is not None and not self.sockets:
            self._emptied.set()

    async def _empty(self, within_s: float) -> bool:
        if not self.sockets or self._emptied is None:
            return True
        try:
            await asyncio.wait_for(self._emptied.wait(), within_s)
        except TimeoutError:
            return False
        return True
