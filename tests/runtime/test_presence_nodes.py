"""Joins and leaves over several nodes: a user is one, however many connections come and go where."""

import asyncio

from gateway.fanout import presence as presence_module
from tests.runtime.conftest import Place
from tests.runtime.nodes import Cluster
from tests.runtime.world import Client
from tests.waiting import turns, until


def told(client: Client, user: str) -> list[str]:
    return [f["event"] for f in client.outlet.frames if f["type"] == "presence" and f.get("user") == user]


async def watchers(cluster: Cluster) -> tuple[list[Client], str]:
    """Somebody on each node who sees who comes and goes."""
    olga = await cluster.client(0, "olga")
    session = await olga.open()
    others = [await cluster.member(n, f"w{n}", olga, session) for n in range(1, len(cluster.nodes))]
    await olga.world.join(olga, session, "bob")
    return [olga, *others], session


async def everything_is_told(cluster: Cluster, after_s: float = 0.0) -> None:
    """Write what has gathered, and announce whose grace is over `after_s` from now."""
    for node in cluster.nodes:
        await node.leases.flush()
    moment = cluster.nodes[0].clock.monotonic() + after_s
    for node in cluster.nodes:
        node.presence._monotonic = lambda: moment
    await asyncio.gather(*(node.presence.announce_leaves() for node in cluster.nodes))
    for node in cluster.nodes:
        node.presence._monotonic = node.clock.monotonic
    await turns(5)


async def enter(client: Client, session: str) -> None:
    assert (await client.ask("attach", session=session))["type"] == "attached"
    await until(lambda: not client.connection._is_busy)


GRACE = presence_module.GRACE_S + 1


async def test_of_connections_that_come_to_all_nodes_at_the_same_moment_one_joins(place: Place) -> None:
    async with place(3) as cluster:
        seeing, session = await watchers(cluster)
        for _ in range(5):
            bobs = [await cluster.client(n % 3, "bob") for n in range(6)]
            before = [len(told(client, "bob")) for client in seeing]
            await asyncio.gather(*(enter(bob, session) for bob in bobs))
            await until(
                lambda before=before: all(
                    len(told(client, "bob")) > count for client, count in zip(seeing, before, strict=True)
                )
            )
            await turns(10)
            for bob in bobs:
                bob.vanish()
            await everything_is_told(cluster, GRACE)
            await until(lambda: all(told(client, "bob")[-1] == "leave" for client in seeing))
        await turns(10)
        assert [told(client, "bob") for client in seeing] == [["join", "leave"] * 5] * 3


async def test_an_older_connection_elsewhere_of_somebody_present_joins_nothing(place: Place) -> None:
    async with place(2) as cluster:
        seeing, session = await watchers(cluster)
        older = await cluster.client(0, "bob")
        newer = await cluster.client(1, "bob")
        await enter(newer, session)
        await until(lambda: all(told(client, "bob") == ["join"] for client in seeing))
        await enter(older, session)
        await everything_is_told(cluster)
        assert [told(client, "bob") for client in seeing] == [["join"]] * 2


async def test_a_reload_that_comes_to_another_node_is_neither_a_leave_nor_a_join(place: Place) -> None:
    async with place(2) as cluster:
        seeing, session = await watchers(cluster)
        bob = await cluster.client(0, "bob")
        await enter(bob, session)
        await until(lambda: all(told(client, "bob") == ["join"] for client in seeing))
        bob.vanish()
        await everything_is_told(cluster)
        again = await cluster.client(1, "bob")
        await enter(again, session)
        await everything_is_told(cluster, GRACE)
        assert [told(client, "bob") for client in seeing] == [["join"]] * 2
        again.vanish()
        await everything_is_told(cluster, GRACE)
        await until(lambda: all(told(client, "bob") == ["join", "leave"] for client in seeing))


async def test_the_last_connection_of_any_node_leaves_and_only_that_one(place: Place) -> None:
    async with place(2) as cluster:
        seeing, session = await watchers(cluster)
        here, there = await cluster.client(0, "bob"), await cluster.client(1, "bob")
        await asyncio.gather(enter(here, session), enter(there, session))
        await until(lambda: all(told(client, "bob") == ["join"] for client in seeing))
        here.vanish()
        await everything_is_told(cluster, GRACE)
        assert [told(client, "bob") for client in seeing] == [["join"]] * 2
        there.vanish()
        await everything_is_told(cluster, GRACE)
        await until(lambda: all(told(client, "bob") == ["join", "leave"] for client in seeing))
        await everything_is_told(cluster, GRACE)
        assert [told(client, "bob") for client in seeing] == [["join", "leave"]] * 2


async def test_while_the_indexes_are_away_only_announcements_are_late(place: Place) -> None:
    async with place(2) as cluster:
        seeing, session = await watchers(cluster)
        for live in cluster.lives:
            live.go_away()
        bob = await cluster.client(1, "bob")
        await enter(bob, session)
        assert (await bob.send(session, "hello"))["type"] == "ack"
        await until(lambda: all(client.messages(session) == [1] for client in seeing))
        assert [told(client, "bob") for client in seeing] == [[], []]
        for live in cluster.lives:
            live.come_back()
        await everything_is_told(cluster)
        bob.vanish()
        await everything_is_told(cluster, GRACE)
        await until(lambda: all(told(client, "bob") == ["join", "leave"] for client in seeing))
