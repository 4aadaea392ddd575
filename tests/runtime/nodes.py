"""Several nodes in one process: one log, one set of indexes, and between them a bus not to be trusted."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, cast

from gateway.runtime.node import Node, NodeSettings
from store.bus import Bus, BusState, OnGap, Receiver
from store.bus_memory import MemoryBus
from store.delivery import Delivery
from store.errors import Unavailable
from store.live import Live
from store.log import Log, Tallier
from store.open import Places, Stores, migrate_log, open_stores
from store.types import ConnectionEntry
from tests.runtime.world import Client, World
from tests.waiting import later, turns


@dataclass
class Ether:
    """What lies between the nodes: it loses, delays and shuffles, all of it from one seed."""

    chance: Random
    loss: float = 0.0
    delay_s: float = 0.0  # at most; each payload has its own, so that they overtake each other
    lost: int = 0

    def pass_on(self, bus: "LossyBus | Sieve", channel: str, payload: bytes) -> None:
        """Bring a payload to a node, or not."""
        if self.chance.random() < self.loss:
            self.lost += 1
        elif self.delay_s:
            seconds = self.chance.random() * self.delay_s
            asyncio.get_running_loop().call_later(seconds, bus.hear, channel, payload)
        else:
            asyncio.get_running_loop().call_soon(bus.hear, channel, payload)


class LossyBus:
    """One node's end. Its own payloads reach itself whatever happens, as every bus promises."""

    def __init__(self, ether: Ether, others: "list[LossyBus]") -> None:
        self._ether = ether
        self._others = others
        self._delivery = Delivery()
        self._channels: set[str] = set()
        self.state: BusState = "up"
        self.published = self.dropped = 0
        self.is_deaf = False
        others.append(self)

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
        for bus in self._others:
            if bus is not self:
                self._ether.pass_on(bus, channel, payload)

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


class Sieve:
    """A real bus whose payloads of other nodes go through the ether before they are heard."""

    def __init__(self, ether: Ether, bus: Bus) -> None:
        self._ether = ether
        self._bus = bus
        self._receiver: Receiver = lambda channel, payload: None
        self._on_gap: OnGap = lambda: None
        self._channels: set[str] = set()
        self._own: Counter[tuple[str, bytes]] = Counter()
        self._state: BusState | None = None
        self.is_deaf = False

    async def start(self, receiver: Receiver, on_gap: OnGap) -> None:
        self._receiver, self._on_gap = receiver, on_gap
        await self._bus.start(self._take, on_gap)

    async def close(self) -> None:
        await self._bus.close()

    async def subscribe(self, channel: str) -> None:
        self._channels.add(channel)
        await self._bus.subscribe(channel)

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)
        await self._bus.unsubscribe(channel)

    def offer(self, channel: str, payload: bytes) -> None:
        if channel in self._channels:
            self._own[channel, payload] += 1
        self._bus.offer(channel, payload)

    def _take(self, channel: str, payload: bytes) -> None:
        if self._own[channel, payload]:
            self._own[channel, payload] -= 1
            self._receiver(channel, payload)
        else:
            self._ether.pass_on(self, channel, payload)

    def hear(self, channel: str, payload: bytes) -> None:
        if channel in self._channels and not self.is_deaf:
            self._receiver(channel, payload)

    def gap(self) -> None:
        self._on_gap()

    @property
    def state(self) -> BusState:
        return self._state or self._bus.state

    @state.setter
    def state(self, state: BusState) -> None:
        self._state = state

    @property
    def subscriptions(self) -> frozenset[str]:
        return frozenset(self._channels)

    @property
    def published(self) -> int:
        return self._bus.published

    @property
    def received(self) -> int:
        return self._bus.received

    @property
    def dropped(self) -> int:
        return self._bus.dropped

    @property
    def gaps(self) -> int:
        return self._bus.gaps


class Shared:
    """A store that several nodes use; it may be away from one of them. Who owns it starts and ends it.

    While it hangs a call waits until it does not any more, and is then served.
    """

    def __init__(self, store: "Log | Live", *, is_owned: bool) -> None:
        self._store = store
        self._is_owned = is_owned
        self._is_away = False
        self._answering = asyncio.Event()
        self._answering.set()
        self.delay_s = 0.0
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
        if self._is_owned:
            await self._store.start()

    async def close(self) -> None:
        if self._is_owned:
            await self._store.close()

    def prepared(self, entry: ConnectionEntry) -> ConnectionEntry:
        return cast(Live, self._store).prepared(entry)

    def tallier(self, sessions: Sequence[str]) -> Tallier:
        return self._shared(cast(Log, self._store).tallier(sessions))

    def __getattr__(self, name: str) -> Any:
        return self._shared(getattr(self._store, name))

    def _shared(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*given: Any, **more: Any) -> Any:
            self.asked += 1
            if self.delay_s:
                await later(self.delay_s)
            await self._answering.wait()
            if self._is_away:
                raise Unavailable("away")
            return await method(*given, **more)

        return call


class Ground(NamedTuple):
    """The servers on which nodes stand; None: a folder and the memory of this process."""

    database_url: str
    redis_url: str
    prefix: str


class Cluster:
    """The nodes, each a world of its own."""

    def __init__(self, path: Path, ground: Ground | None, seed: int) -> None:
        self.ether = Ether(Random(f"ether:{seed}"))  # noqa: S311 - which payloads are lost
        self.worlds: list[World] = []
        self.buses: list[LossyBus | Sieve] = []
        # What each node sees of the stores that all share.
        self.logs: list[Shared] = []
        self.lives: list[Shared] = []
        self._places = Places(path)
        if ground is not None:
            self._places = Places(
                path, database_url=ground.database_url, redis_url=ground.redis_url, redis_prefix=ground.prefix
            )
        # The truth, as somebody sees it who is no node.
        self._stores = open_stores(self._places)
        self.log, self.live = self._stores.log, self._stores.live
        self._in_memory: list[LossyBus] = []

    def add(self, settings: NodeSettings) -> None:
        """Make one more node; it is not started."""
        stores = self._stores
        is_owned = self._places.redis_url is not None
        if is_owned:
            stores = open_stores(replace(self._places, node_id=settings.node_id))
            self.buses.append(Sieve(self.ether, stores.bus))
        else:
            self.buses.append(LossyBus(self.ether, self._in_memory))
        self.logs.append(Shared(stores.log, is_owned=is_owned))
        self.lives.append(Shared(stores.live, is_owned=is_owned))
        seen = Stores(
            log=cast(Log, self.logs[-1]),
            live=cast(Live, self.lives[-1]),
            bus=self.buses[-1],
            media=MemoryBus(),
            cache=stores.cache,
        )
        self.worlds.append(World(seen, settings))

    async def start(self) -> None:
        """Start the stores, then the nodes."""
        if self._places.database_url is not None:
            await asyncio.to_thread(migrate_log, self._places)
        await self._stores.start(lambda channel, payload: None, lambda: None)
        for node in self.nodes:
            await node.start()

    async def stop(self) -> None:
        """Let all clients vanish, and stop the nodes."""
        for store in (*self.logs, *self.lives):
            store.come_back()
        for world in self.worlds:
            for client in world.clients:
                if not client.connection.is_closed:
                    client.vanish()
        for node in self.nodes:
            await node.stop()
        await self._stores.close()

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


def url_of(node: str) -> str:
    """Where clients are told to go that are to move to this node."""
    return f"ws://{node}/ws"


@asynccontextmanager
async def nodes(
    path: Path, count: int = 2, *, seed: int = 0, ground: Ground | None = None, **settings: Any
) -> AsyncIterator[Cluster]:
    """Running nodes on one log; everything is closed at the end."""
    cluster = Cluster(path, ground, seed)
    for number in range(count):
        name = f"n{number + 1}"
        cluster.add(NodeSettings(node_id=name, advertise_url=url_of(name), **settings))
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
