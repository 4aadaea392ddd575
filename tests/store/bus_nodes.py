"""Nodes on one Redis: each a bus, what it has received, and how often it was told of a gap."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from loadtest.servers.redis import RedisServer
from store.bus_redis.bus import RedisBus
from tests.waiting import until


class BusNode:
    """One node's bus."""

    def __init__(self, url: str, prefix: str, name: str = "bus") -> None:
        self.id = uuid4().hex[:8]
        self.prefix = prefix
        self.bus = RedisBus(url, prefix, self.id, name)
        self.received: list[tuple[str, bytes]] = []
        self.gaps = 0

    def receive(self, channel: str, payload: bytes) -> None:
        self.received.append((channel, payload))

    def gap(self) -> None:
        self.gaps += 1

    def payloads(self, channel: str) -> list[bytes]:
        """What has arrived on a channel."""
        return [payload for name, payload in self.received if name == channel]

    def connections(self, server: RedisServer) -> tuple[str, str]:
        """Find its connections among the clients of a server: that which listens, that which speaks."""
        clients = [
            dict(field.partition("=")[::2] for field in line.split())
            for line in server.run("CLIENT", "LIST").splitlines()
        ]
        own = [client for client in clients if client["name"].startswith(self.id)]
        assert len(own) == 2, own
        listening = max(own, key=lambda client: int(client["sub"]))
        (speaking,) = (client for client in own if client is not listening)
        return listening["id"], speaking["id"]

    async def until_up(self, *, gaps: int = 0, within: float = 15.0) -> None:
        """Wait until the bus has healed and has told of this many gaps."""
        await until(
            lambda: self.bus.state == "up" and self.gaps >= gaps, within=within, what=f"{self.bus.state}"
        )


@asynccontextmanager
async def bus_nodes(url: str, count: int = 2, prefix: str = "") -> AsyncIterator[list[BusNode]]:
    """Run some nodes with a prefix of their own."""
    prefix = prefix or f"t{uuid4().hex[:8]}"
    nodes = [BusNode(url, prefix) for _ in range(count)]
    try:
        for node in nodes:
            await node.bus.start(node.receive, node.gap)
        yield nodes
    finally:
        for node in nodes:
            await node.bus.close()


async def is_heard(speaker: BusNode, listener: BusNode, channel: str) -> None:
    """Hold that what one offers from now on arrives at the other."""
    payload = uuid4().bytes
    speaker.bus.offer(channel, payload)
    await until(lambda: payload in listener.payloads(channel), what=f"{channel} from node to node")
