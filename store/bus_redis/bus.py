"""The bus of many nodes: pub/sub of Redis, which may be away without harm to anything but liveness.

What the parts are for: `link` moves bytes, `listener` and `speaker` use one each, `shard` proves that the two
are connected, `layout` knows which servers there are. Here is which channel is held, and where.
"""

import asyncio
import random
import secrets
from contextlib import suppress
from typing import Final

import structlog
from redis.crc import key_slot

from store.bus import BusState, OnGap, Receiver
from store.bus_redis import layout
from store.bus_redis.dialect import Dialect
from store.bus_redis.keeper import forever, pause_s
from store.bus_redis.layout import SLOTS, Layout
from store.bus_redis.listener import TAG_BYTES
from store.bus_redis.server import Address, Server
from store.bus_redis.shard import Origin, Shard
from store.delivery import Delivery
from store.errors import Unavailable

TICK_S: Final = 1.0

# How long the start waits for Redis. A node starts without it just as it goes on without it.
START_S: Final = 2.0

# A cluster is asked for its layout when something has moved, not more often than this, and now and then:
# nobody tells us of an upgrade, after which all nodes speak in another way.
LAYOUT_PAUSE_S: Final = 0.25
LAYOUT_S: Final = 60.0

_logger = structlog.get_logger("store.bus")


class _Held:
    """A channel that is received."""

    __slots__ = ("shard", "wire")

    def __init__(self, wire: bytes, shard: Shard | None) -> None:
        self.wire = wire
        self.shard = shard


class RedisBus:
    """One's own payloads arrive without Redis, those of others by it; the echo of one's own is passed over.

    `name` keeps the channels of two buses apart that share a prefix, whatever their users call them.
    """

    def __init__(self, url: str, prefix: str, node: str, name: str = "bus") -> None:
        self._server = Server(url, f"{node}:{name}")
        tag = secrets.token_bytes(TAG_BYTES)
        # The braces: on a cluster the slot is that of the channel alone, whatever the prefix.
        self._stem = f"{prefix}:{name}:{{".encode()
        self._probe_stem = self._stem + b"probe." + tag.hex().encode() + b"."
        self._delivery = Delivery()
        self._origin = Origin(tag, self._delivery.hand, self._delivery.gap, self._moved)
        self._held: dict[str, _Held] = {}
        self._shards: dict[tuple[Address, bool], Shard] = {}
        self._table: list[Shard | None] = [None] * SLOTS
        self._is_whole = False
        self._former: list[Shard] = []  # which are being closed
        self._is_arranged = asyncio.Event()
        self._known = [self._server.address]
        self._has_moved = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._losses = 0  # of shards that are no more

    # -- its life

    async def start(self, receiver: Receiver, on_gap: OnGap) -> None:
        self._delivery.start(receiver, on_gap)
        loop = asyncio.get_running_loop()
        if self._server.is_cluster:
            self._tasks.append(loop.create_task(forever(self._follow)))
        else:
            await self._arrange(layout.alone(self._server.address))
        self._tasks.append(loop.create_task(forever(self._tick)))
        try:
            async with asyncio.timeout(START_S):
                await self._is_arranged.wait()
                for shard in list(self._shards.values()):
                    await shard.proven.wait()
        except TimeoutError:
            # Why not has been said by whoever tried to connect.
            _logger.warning("bus_not_there", to_do="bring Redis back; the node has started without it")

    async def close(self) -> None:
        self._delivery.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        shards = [*self._shards.values(), *self._former]
        self._shards.clear()
        self._former.clear()
        self._table = [None] * SLOTS
        await asyncio.gather(*(shard.close() for shard in shards))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for shard in self._shards.values():
                shard.tick()

    # -- channels

    async def subscribe(self, channel: str) -> None:
        held = self._held.get(channel)
        if held is None:
            wire = self._wire(channel)
            held = self._held[channel] = _Held(wire, self._shard_of(wire))
            if held.shard is not None:
                held.shard.listener.hold(wire, channel)
        if held.shard is None:
            raise Unavailable(f"no Redis serves the channel {channel} at the moment")
        await held.shard.listener.confirm(held.wire)

    async def unsubscribe(self, channel: str) -> None:
        held = self._held.pop(channel, None)
        if held is not None and held.shard is not None:
            held.shard.listener.release(held.wire)

    def offer(self, channel: str, payload: bytes) -> None:
        counts = self._origin.counts
        if not self._delivery.is_open:
            counts.dropped += 1
            return
        held = self._held.get(channel)
        if held is None:
            wire = self._wire(channel)
            shard, is_taken = self._shard_of(wire), True
        else:
            wire, shard = held.wire, held.shard
            is_taken = self._delivery.offer(channel, payload)
        if shard is None or not shard.speaker.offer(wire, payload):
            is_taken = False
        if is_taken:
            counts.published += 1
        else:
            counts.dropped += 1

    def _wire(self, channel: str) -> bytes:
        return b"%b%b}" % (self._stem, channel.encode())

    def _shard_of(self, wire: bytes) -> Shard | None:
        return self._table[key_slot(wire)]

    # -- where channels live

    def _moved(self) -> None:
        self._has_moved.set()

    async def _follow(self) -> None:
        """Keep to the layout of the cluster."""
        failures = 0
        while True:
            self._has_moved.clear()
            try:
                await self._arrange(await layout.read(self._server, self._places()))
                failures = 0
            except Unavailable as error:
                if not failures:
                    _logger.warning("bus_layout_unknown", error=str(error))
                failures += 1
                self._has_moved.set()
            await asyncio.sleep(LAYOUT_PAUSE_S + pause_s(failures))
            with suppress(TimeoutError):
                async with asyncio.timeout(LAYOUT_S):
                    await self._has_moved.wait()

    def _places(self) -> list[Address]:
        """Where to ask for the layout, in which order."""
        # Another one each time: a node that is cut off from the others believes in the layout of yesterday.
        places = random.sample(self._known, len(self._known))
        # But while one node serves all channels, it goes on doing so.
        return [*(address for address, is_sharded in self._shards if not is_sharded), *places]

    async def _arrange(self, found: Layout) -> None:
        """Have a shard for each server, and every channel held by the one that serves it."""
        self._known = list(dict.fromkeys([*found.known, self._server.address]))
        former, self._shards = self._shards, {}
        self._table = [None] * SLOTS
        for address, slots in found.slots.items():
            key = (address, found.dialect.is_sharded)
            server = former.pop(key) if key in former else self._shard_at(address, found.dialect)
            self._shards[key] = server
            server.probe_by(layout.probe_channel(self._probe_stem, slots))
            for part in slots:
                self._table[part.start : part.stop] = [server] * len(part)
        for channel, held in self._held.items():
            shard = self._shard_of(held.wire)
            if shard is not held.shard:
                if held.shard is not None:
                    held.shard.listener.release(held.wire)
                held.shard = shard
                if shard is not None:
                    shard.listener.hold(held.wire, channel)
        self._is_whole = None not in self._table
        self._losses += sum(shard.losses for shard in former.values())
        self._former = list(former.values())
        self._is_arranged.set()
        await asyncio.gather(*(shard.catch_up() for shard in self._shards.values()))
        await asyncio.gather(*(shard.close() for shard in self._former))
        self._former.clear()

    def _shard_at(self, address: Address, dialect: Dialect) -> Shard:
        shard = Shard(self._server, address, dialect, self._origin)
        shard.start()
        return shard

    # -- what is to be seen of it

    @property
    def state(self) -> BusState:
        states = {shard.state for shard in self._shards.values()}
        if "deaf" in states:
            return "deaf"
        return "up" if states == {"up"} and self._is_whole else "away"

    @property
    def published(self) -> int:
        return self._origin.counts.published

    @property
    def received(self) -> int:
        return self._delivery.received

    @property
    def dropped(self) -> int:
        return self._origin.counts.dropped

    @property
    def gaps(self) -> int:
        return self._delivery.gaps

    @property
    def unanswered(self) -> int:
        """How many payloads are on their way to Redis."""
        return sum(shard.speaker.unanswered for shard in self._shards.values())

    @property
    def losses(self) -> int:
        """How often a connection to Redis was lost or could not be made since start."""
        return self._losses + sum(shard.losses for shard in self._shards.values())
