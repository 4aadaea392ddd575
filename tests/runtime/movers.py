"""Clients that do what they are asked: move, stay, or go somewhere else; and what became of a task."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.runtime.nodes import Cluster, url_of
from tests.runtime.test_leases import flushed, resumed
from tests.runtime.world import Client
from tests.waiting import until


class Mover:
    """One client, its present connection and its token. `goes_to` says to which node, by the `url` given."""

    def __init__(self, cluster: Cluster, client: Client, token: str, user: str) -> None:
        self.cluster = cluster
        self.client = client
        self.token = token
        self.user = user
        self.former: list[Client] = []
        self.asked: list[dict[str, Any]] = []
        self.goes_to: Callable[[str], int] = lambda url: places(cluster)[url]

    @property
    def id(self) -> str:
        return self.client.connection.id

    @property
    def node(self) -> str:
        return self.client.connection.node.id

    async def be_asked(self) -> dict[str, Any]:
        """Wait for the next `migrate`."""
        self.asked.append(await self.client.next("migrate"))
        return self.asked[-1]

    async def move(self) -> None:
        """Be asked, and move: the second connection is there before the first one goes."""
        asked = await self.be_asked()
        old, place = self.client, self.goes_to(asked["url"])
        self.client, self.token = await resumed(self.cluster, place, self.token, self.user)
        self.former.append(old)
        if old.connection.attachments:
            await self.client.next("live")
        old.vanish(1000)


def places(cluster: Cluster) -> dict[str, int]:
    """Nodes by the addresses they advertise."""
    return {url_of(node.id): place for place, node in enumerate(cluster.nodes)}


async def mover(cluster: Cluster, node: int, user: str, session: str | None = None) -> Mover:
    """A client at a node, attached to a session of which it is a member."""
    client = cluster.worlds[node].connect()
    token = (await client.hello(user))["resume"]
    if session is not None:
        assert (await client.ask("attach", session=session, since=0))["type"] == "attached"
        await client.next("live")
    await flushed(cluster)
    return Mover(cluster, client, token, user)


async def in_session(cluster: Cluster, *users: str) -> tuple[list[Mover], str]:
    """One client on each of the first nodes, all in one session of the first one's."""
    owner = await mover(cluster, 0, users[0])
    session = await owner.client.open()
    for user in users[1:]:
        await owner.client.world.join(owner.client, session, user)
    others = [await mover(cluster, place, user, session) for place, user in enumerate(users[1:], 1)]
    await flushed(cluster)
    return [owner, *others], session


async def begun(
    cluster: Cluster, kind: Any, subject: str, target: str | None = None, *, at: int = 0
) -> dict[str, Any]:
    """Ask a node for a move, as an operator of the tenant of all clients."""
    for node in cluster.nodes:
        await node.lease.renew()
    return await cluster.nodes[at].moves.begin("default", kind, subject, target)


async def ended(
    cluster: Cluster, task: dict[str, Any], *, at: int = 0, within: float = 5.0
) -> dict[str, Any]:
    """Wait until a node says that the task is over; what it says."""
    told: dict[str, Any] = {}

    async def is_over() -> bool:
        nonlocal told
        told = await cluster.nodes[at].moves.find("default", task["id"])
        return bool(told["state"] != "running")

    await until(is_over, within=within, what=f"the task is over: {told}")
    return told


def outcomes(task: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """What became of each user's connection, and where it is."""
    return {each["user"]: (each["outcome"], each["node"]) for each in task["outcomes"]}


async def all_moving(movers: list[Mover]) -> None:
    """Have them all move."""
    await asyncio.gather(*(each.move() for each in movers))
