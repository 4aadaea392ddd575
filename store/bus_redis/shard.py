"""One server of the bus: a connection that listens, one that speaks, and the proof that they are connected.

Two, so that a flood which gets the one cut off (`client-output-buffer-limit pubsub`) leaves the other.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from store.bus import BusState
from store.bus_redis.dialect import Dialect
from store.bus_redis.keeper import Keeper, forever
from store.bus_redis.listener import Listener
from store.bus_redis.server import Address, Server
from store.bus_redis.speaker import Counts, Speaker
from store.errors import Unavailable

# Probes that do not come back, one each tick, until the bus is called deaf.
DEAF_TICKS: Final = 3


class Origin:
    """What all servers of one bus share: who it is, what it counts, and where payloads go."""

    def __init__(
        self,
        tag: bytes,
        hand: Callable[[str, bytes], None],
        gap: Callable[[], None],
        moved: Callable[[], None],
    ) -> None:
        self.tag = tag
        self.hand = hand
        self.gap = gap
        self.on_moved = moved
        self.counts = Counts()


class Shard:
    """Up when everything held is subscribed and something has arrived since. `tick` it once a second."""

    def __init__(self, server: Server, address: Address, dialect: Dialect, origin: Origin) -> None:
        self.address = address
        self.dialect = dialect
        self.listener = Listener(dialect, origin.tag, origin.hand)
        self.speaker = Speaker(dialect, origin.tag, origin.counts)
        self._keepers = Keeper(server, address, "listen"), Keeper(server, address, "speak")
        self._tasks: list[asyncio.Task[None]] = []
        self._gap = origin.gap
        self.proven = asyncio.Event()  # something has arrived by this connection
        self._probe = b""
        self._heard = 0
        self._missed = 0
        self._is_listening = False  # everything held is subscribed
        self._is_asked = False  # a probe has gone out with the last tick
        self._is_lossy = False  # something may have been lost, and nobody was told
        self._is_deaf = False
        self.listener.on_ready = self._listening
        self.listener.on_gone = self._lost
        self.listener.on_failed = self._failed
        self.listener.on_echo = self._echoed
        self.listener.on_moved = self.speaker.on_moved = self._moved = origin.on_moved
        self.speaker.on_ready = self._send_probe

    # -- its life

    def start(self) -> None:
        """Connect, and stay connected until `close`."""
        loop = asyncio.get_running_loop()
        listening, speaking = self._keepers
        self._tasks = [
            loop.create_task(forever(partial(listening.run, self.listener))),
            loop.create_task(forever(partial(speaking.run, self.speaker))),
        ]

    async def close(self) -> None:
        """Have what was offered taken, then end both connections."""
        await self.speaker.finish()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def catch_up(self) -> None:
        """Subscribe to what has come to this server."""
        if self.listener.is_connected:
            try:
                await self.listener.catch_up()
            except Unavailable as error:
                self.listener.drop(str(error))

    @property
    def losses(self) -> int:
        """How often a connection was lost or could not be made."""
        return sum(keeper.losses for keeper in self._keepers)

    @property
    def state(self) -> BusState:
        """What this server contributes to the state of the bus."""
        if self._is_deaf:
            return "deaf"
        return "up" if self.proven.is_set() and self.speaker.is_connected else "away"

    # -- the proof

    def probe_by(self, wire: bytes) -> None:
        """Use this channel for probes; on a cluster it has to live here."""
        if wire != self._probe:
            self.listener.release(self._probe)
            self._probe = wire
            self.listener.hold(wire, "")

    def tick(self) -> None:
        """Send a probe; see to what became of the former ones."""
        heard, self._heard = self._heard, self.listener.heard
        if heard != self._heard:
            self._prove()
        elif self._is_asked and self.listener.is_confirmed(self._probe):
            self._missed += 1
        is_answered = self.speaker.tick()
        if self._missed >= DEAF_TICKS:
            # A Redis that has stopped altogether is away, for every node. Deaf is who is told by it that what
            # was published has been published, and does not hear it: this node is the one to be passed by.
            self._is_deaf = is_answered
            self._is_lossy = True
            meaning = "the bus is deaf" if is_answered else "Redis has stopped answering"
            self.listener.drop(f"nothing has arrived for {DEAF_TICKS} s: {meaning}")
        self._send_probe()

    def _send_probe(self) -> None:
        self._is_asked = self.speaker.is_connected and self.listener.is_confirmed(self._probe)
        if self._is_asked:
            self.speaker.probe(self._probe)

    def _echoed(self, wire: bytes) -> None:
        if wire == self._probe:
            self._prove()

    def _prove(self) -> None:
        self._missed = 0
        if not self._is_listening:
            return
        self.proven.set()
        self._is_deaf = False
        if self._is_lossy:
            self._is_lossy = False
            self._gap()

    def _listening(self, asked: list[bytes]) -> None:
        self._is_listening = True
        self._is_lossy |= asked not in ([], [self._probe])
        if self.proven.is_set() and self._is_lossy:
            self._prove()
        else:
            self._send_probe()

    def _lost(self) -> None:
        self._is_listening = self._is_asked = False
        self.proven.clear()
        self._heard, self._missed = self.listener.heard, 0

    def _failed(self) -> None:
        # Whom we cannot reach is away, not deaf, and on a cluster perhaps replaced.
        self._is_deaf = False
        self._moved()
