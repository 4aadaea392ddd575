"""Whoever has left had joined, whatever happens while the index is asked about them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.fanout import presence as presence_module
from store.types import ConnectionEntry
from tests.runtime.conftest import Place
from tests.runtime.nodes import Cluster
from tests.runtime.test_events import everything_is_told, kinds
from tests.runtime.test_presence_nodes import told
from tests.runtime.world import Client
from tests.waiting import turns, until

GRACE = presence_module.GRACE_S + 1


class Answer:
    """The answer to the next write of connections: it is on its way until `go`."""

    def __init__(self) -> None:
        self.is_written = asyncio.Event()
        self.go = asyncio.Event()


@asynccontextmanager
async def answering_late(cluster: Cluster) -> AsyncIterator[Answer]:
    """Have the first node's indexes take what is written, and answer later."""
    live, answer = cluster.nodes[0].live, Answer()
    write = live.assert_connections

    async def slow(entries: Sequence[ConnectionEntry], *, lease_ms: int) -> Any:
        arrivals = await write(entries, lease_ms=lease_ms)
        if any(entry.user == "bob" and entry.sessions for entry in entries):
            answer.is_written.set()
            await answer.go.wait()
        return arrivals

    live.assert_connections = slow  # type: ignore[method-assign]
    try:
        yield answer
    finally:
        answer.go.set()
        live.assert_connections = write  # type: ignore[method-assign]


async def invited(cluster: Cluster) -> tuple[Client, str, Client]:
    """Olga on the last node in a session of hers, and bob on the first, a member who is not in it yet."""
    olga = await cluster.client(len(cluster.nodes) - 1, "olga")
    session = await olga.open()
    await olga.world.join(olga, session, "bob")
    return olga, session, await cluster.client(0, "bob")


async def came_and_went(cluster: Cluster, olga: Client) -> None:
    """Bob is told to have joined and left, each once, as presence and as an event."""
    await everything_is_told(cluster, GRACE)
    await until(lambda: told(olga, "bob") == ["join", "leave"])
    await everything_is_told(cluster, 2 * GRACE)
    assert told(olga, "bob") == ["join", "leave"]
    assert await kinds(cluster, "bob") == ["joined", "left"]


async def test_who_is_gone_before_the_index_answers_has_joined_and_left(place: Place) -> None:
    async with place(2) as cluster:
        olga, session, bob = await invited(cluster)
        async with answering_late(cluster) as answer:
            bob.say("attach", id="a", session=session)
            await answer.is_written.wait()
            bob.vanish()
        await came_and_went(cluster, olga)


async def test_who_is_brought_in_by_a_flush_and_gone_before_their_turn_has_joined_and_left(
    place: Place,
) -> None:
    async with place(2) as cluster:
        olga, session, bob = await invited(cluster)
        node = cluster.nodes[0]
        held, go = asyncio.Event(), asyncio.Event()
        assert_now = node.leases.assert_now

        async def slow(connection: Any) -> None:
            held.set()
            await go.wait()
            await assert_now(connection)

        node.leases.assert_now = slow  # type: ignore[method-assign]
        bob.say("attach", id="a", session=session)
        await held.wait()
        node.leases.changed(bob.connection)
        await node.leases.flush()
        bob.vanish()
        go.set()
        await came_and_went(cluster, olga)


async def test_who_comes_while_redis_is_away_has_joined_when_it_is_back(place: Place) -> None:
    async with place(2) as cluster:
        olga, session, bob = await invited(cluster)
        cluster.lives[0].go_away()
        assert (await bob.ask("attach", session=session))["type"] == "attached"
        await until(lambda: not bob.connection._is_busy)
        assert told(olga, "bob") == []
        cluster.lives[0].come_back()
        await until(lambda: told(olga, "bob") == ["join"])
        await everything_is_told(cluster)
        assert await kinds(cluster, "bob") == ["joined"]
        bob.vanish()
        await came_and_went(cluster, olga)


async def test_who_comes_and_goes_while_redis_is_away_was_never_there(place: Place) -> None:
    async with place(2) as cluster:
        olga, session, bob = await invited(cluster)
        cluster.lives[0].go_away()
        assert (await bob.ask("attach", session=session))["type"] == "attached"
        bob.vanish()
        cluster.lives[0].come_back()
        await everything_is_told(cluster, GRACE)
        assert told(olga, "bob") == []
        assert await kinds(cluster, "bob") == []


@pytest.mark.parametrize("by_flush", [False, True], ids=["attaching", "flushing"])
async def test_who_is_written_while_the_node_stops_has_joined_and_left(place: Place, by_flush: bool) -> None:
    async with place(2) as cluster:
        olga, session, bob = await invited(cluster)
        node = cluster.nodes[0]
        if by_flush:
            cluster.lives[0].go_away()
            assert (await bob.ask("attach", session=session))["type"] == "attached"
            await until(lambda: not bob.connection._is_busy)
            cluster.lives[0].come_back()
        async with answering_late(cluster) as answer:
            if not by_flush:
                bob.say("attach", id="a", session=session)
            await answer.is_written.wait()
            await node.tasks.stop()  # as a node that is told to stop does first
            bob.vanish()
            await turns(3)
        await came_and_went(cluster, olga)
