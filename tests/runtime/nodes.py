"""Several nodes in one process: one log, one set of indexes, and between them a bus not to be trusted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

from gateway.runtime.node import Node, NodeSettings
from store.bus import BusState, OnGap, Receiver
from store.bus_memory import MemoryBus
from store.cache_memory import MemoryCache
from store.delivery import Delivery
from store.errors import Unavailable
from store.live import Live
from store.live_memory import MemoryLive
from store.log import Log
from store.log_sqlite.log import SqliteLog
from store.open import Stores
from tests.runtime.world import Client, World
from tests.waiting import turns


@dataclass
class Ether:
    """What lies between the nodes: it loses, delays and shuffles, all of it from one seed."""

    chance: Random
    loss: float = 0.0
    delay_s: float = 0.0  # at most; each payload has its own, so that they overtake each other
    buses: list["LossyBus"] = field(default_factory=list)
    lost: int = 0

    def carry(self, origin: "LossyBus", channel: str, payload: bytes) -> None:
        """Bring a payload to the other nodes, or not."""
        for bus in self.buses:
            if bus is origin:
                continue
            if self.chance.random() < self.loss:
                self.lost += 1
            elif self.delay_s:
                seconds = self.chance.random() * self.delay_s
                asyncio.get_running_loop().call_later(seconds, bus.hear, channel, payload)
            else:
                asyncio.get_running_loop().call_soon(bus.hear, channel, payload)


class LossyBus:
    """One node's end. Its own payloads reach itself whatever happens, as every bus promises."""

    def __init__(self, ether: Ether) -> None:
        self._ether = ether
        self._delivery = Delivery()
        self._channels: set[str] = set()
        self.state: BusState = "up"
        self.published = self.dropped = 0
        self.is_deaf = False
        ether.buses.append(self)

    async def start(self, receiver: Receiver, on_gap: OnGap) -> None:
        self._delivery.start(receiver, on_gap)

    async def close(self) -> None:
        self._delivery.close()

    async def subscribe(self, channel: str) -> None:
        await turns()
        self._channels.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        await turns()
        self._channels.discard(channel)

    def offer(self, channel: str, payload: bytes) -> None:
        self.published += 1
        if channel in self._channels:
            self._delivery.offer(channel, payload)
        self._ether.carry(self, channel, payload)

    def hear(self, channel: str, payload: bytes) -> None:
        """Take what another node has offered."""
        if channel in self._channels and not self.is_deaf:
            self._delivery.hand(channel, payload)

    def gap(self) -> None:
        """Say that payloads may have been lost."""
        self._delivery.gap()

    @property
    def subscriptions(self) -> frozenset[str]:
        return frozenset(self._channels)

    @property
    def received(self) -> int:
        return self._delivery.received

    @property
    def gaps(self) -> int:
        return self._delivery.gaps


class Shared:
    """A store that several nodes use and none of them starts or ends; it may be away from one of them.

    While it hangs a call waits until it does not any more, and is then served.
    """

    def __init__(self, store: object) -> None:
        self._store = store
        self._is_away = False
        self._answering = asyncio.Event()
        self._answering.set()
        self.asked = 0

    def go_away(self) -> None:
        self._is_away = True
        self._answering.set()

    def hang(self) -> None:
        self._answering.clear()

    def come_back(self) -> None:
        self._is_away = False
        self._answering.set()

    async def start(self) -> None:
        await turns()

    async def close(self) -> None:
        await turns()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*given: Any, **more: Any) -> Any:
            self.asked += 1
            await self._answering.wait()
            if self._is_away:
                raise Unavailable("away")
            return await method(*given, **more)

        return call


class Cluster:
    """The nodes, each a world of its own."""

    def __init__(self, log: Log, count: int, seed: int, settings: dict[str, Any]) -> None:
        self.log = log
        self.live = MemoryLive()
        self.ether = Ether(Random(f"ether:{seed}"))  # noqa: S311 - which payloads are lost
        cache = MemoryCache()
        self.worlds: list[World] = []
        self.buses = [LossyBus(self.ether) for _ in range(count)]
        # What each node sees of the stores that all share.
        self.logs = [Shared(log) for _ in range(count)]
        self.lives = [Shared(self.live) for _ in range(count)]
        for number in range(count):
            stores = Stores(
                log=cast(Log, self.logs[number]),
                live=cast(Live, self.lives[number]),
                bus=self.buses[number],
                media=MemoryBus(),
                cache=cache,
            )
            self.worlds.append(World(stores, NodeSettings(node_id=f"n{number + 1}", **settings)))

    @property
    def nodes(self) -> list[Node]:
        return [world.node for world in self.worlds]

    async def client(self, node: int, user: str = "alice", **fields: Any) -> Client:
        """Make a connection to one of the nodes."""
        return await self.worlds[node].client(user, **fields)

    async def member(self, node: int, user: str, owner: Client, session: str, role: str = "writer") -> Client:
        """Make a user a member, and attach them from the beginning at one of the nodes."""
        await owner.world.join(owner, session, user, role)
        client = await self.client(node, user)
        assert (await client.ask("attach", session=session, since=0))["type"] == "attached"
        await client.next("live")
        return client

    def deafen(self, node: int) -> None:
        """Have nothing more arrive at a node, without its knowing."""
        self.buses[node].is_deaf = True


@asynccontextmanager
async def nodes(path: Path, count: int = 2, *, seed: int = 0, **settings: Any) -> AsyncIterator[Cluster]:
    """Running nodes on one log; everything is closed at the end."""
    log = SqliteLog(path)
    await log.start()
    cluster = Cluster(log, count, seed, settings)
    try:
        for node in cluster.nodes:
            await node.start()
        yield cluster
    finally:
        for world in cluster.worlds:
            for client in world.clients:
                if not client.connection.is_closed:
                    client.vanish()
        for node in cluster.nodes:
            await node.stop()
        await log.close()
