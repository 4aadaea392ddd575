"""A node leaves a cluster: its clients are served there until they are elsewhere, and nobody notices."""

import asyncio
from typing import Any

import pytest

from gateway.runtime import drain as drain_module
from gateway.runtime.drain import FLUSH_LIMIT_S
from tests.runtime.conftest import Place
from tests.runtime.nodes import Cluster
from tests.runtime.test_leases import flushed, indexed, resumed
from tests.runtime.test_presence_nodes import GRACE, everything_is_told, told
from tests.runtime.world import Client
from tests.waiting import turns, until


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no balancer here that has to look first."""
    monkeypatch.setattr(drain_module, "LEAD_S", 0.05)


async def couple(cluster: Cluster) -> tuple[Client, Client, str, str]:
    """Alice on the first node, olga on the second, in a session of hers; and alice's token."""
    olga = await cluster.client(1, "olga")
    session = await olga.open()
    await olga.world.join(olga, session, "alice")
    alice = cluster.worlds[0].connect()
    token = (await alice.hello("alice"))["resume"]
    assert (await alice.ask("attach", session=session, since=0))["type"] == "attached"
    await alice.next("live")
    await until(lambda: told(olga, "alice") == ["join"])
    await flushed(cluster)
    return alice, olga, session, token


def signals(client: Client) -> list[Any]:
    return [
        frame["data"]["n"]
        for frame in client.outlet.frames
        if frame["type"] == "signal" and "id" not in frame
    ]


def acked(client: Client) -> set[str]:
    return {frame["id"] for frame in client.outlet.frames if frame["type"] == "ack"}


async def test_a_client_moves_and_nobody_sees_it_leave_and_nothing_it_said_is_without_an_answer(
    place: Place,
) -> None:
    async with place(2) as cluster:
        old, olga, session, token = await couple(cluster)
        draining = asyncio.create_task(cluster.nodes[0].drain())
        migrate = await old.next("migrate")
        assert (migrate["reason"], migrate["url"]) == ("drain", None)
        assert 0 <= migrate["slot_ms"] < 250
        assert 29_000 < migrate["deadline_ms"] <= 30_000
        assert cluster.nodes[0].readiness().reason == "draining"
        for n in range(20):
            old.say("send", id=f"c{n}", session=session, content=f"m{n}")
        new, _ = await resumed(cluster, 1, token)
        await new.next("live")
        # Both are served in full while they overlap.
        for n in range(20, 30):
            old.say("send", id=f"c{n}", session=session, content=f"m{n}")
        await until(lambda: acked(old) == {f"c{n}" for n in range(30)})
        await olga.send(session, "to both")
        for client in (old, new, olga):
            await until(lambda client=client: client.messages(session) == list(range(1, 32)))
        assert not draining.done()
        old.vanish(1000)
        await asyncio.wait_for(draining, 5)
        assert cluster.nodes[0].leaving.counts == {"moved": 1, "closed": 0, "left": 0}
        await everything_is_told(cluster, GRACE)
        assert told(olga, "alice") == ["join"]
        assert await indexed(cluster) == [new.connection.id]


async def test_a_signal_reaches_both_connections_of_a_moving_client_once_each(place: Place) -> None:
    async with place(2) as cluster:
        old, olga, session, token = await couple(cluster)
        draining = asyncio.create_task(cluster.nodes[0].drain())
        await old.next("migrate")
        new, _ = await resumed(cluster, 1, token)
        await new.next("live")
        for n in range(10):
            olga.say("signal", session=session, name="n", data={"n": n})
        for client in (old, new):
            await until(lambda client=client: signals(client) == list(range(10)))
        old.say("signal", session=session, name="n", data={"n": "hers"})
        await until(lambda: signals(olga) == ["hers"])
        olga.say("signal", session=session, name="n", data={"n": "after it"})
        for client in (old, new):
            await until(lambda client=client: "after it" in signals(client))
            # What the client itself said is no news to either: the second may be in charge by now.
            assert "hers" not in signals(client)
        old.vanish(1000)
        await draining


async def test_whatever_is_asked_of_a_draining_node_is_done(place: Place) -> None:
    async with place(2) as cluster:
        alice, olga, session, _ = await couple(cluster)
        draining = asyncio.create_task(cluster.nodes[0].drain())
        await alice.next("migrate")
        another = await alice.open(title="begun while it drains")
        assert (await alice.send(another, "and written into"))["seq"] == 1
        assert (await alice.ask("detach", session=session))["type"] == "detached"
        assert (await alice.ask("attach", session=session, since=0))["type"] == "attached"
        assert (await olga.send(session, "heard"))["seq"] == 1
        await until(lambda: alice.messages(session) == [1])
        alice.vanish(1000)
        await asyncio.wait_for(draining, 5)


async def test_a_client_in_its_hello_is_welcome_first_and_asked_then(place: Place) -> None:
    async with place(2) as cluster:
        node = cluster.nodes[0]
        admit, reached, go = node.leases.admit, asyncio.Event(), asyncio.Event()

        async def held(*args: Any) -> bool:
            reached.set()
            await go.wait()
            return await admit(*args)

        node.leases.admit = held  # type: ignore[method-assign, assignment]
        alice = cluster.worlds[0].connect()
        alice.say("hello", token=cluster.worlds[0].tokens.mint("alice"))
        silent = cluster.worlds[0].connect()
        await reached.wait()
        draining = asyncio.create_task(node.drain())
        assert await silent.closed() == 4000
        silent.vanish(4000)
        await turns(20)
        assert alice.outlet.frames == []
        go.set()
        await alice.next("migrate")
        assert [frame["type"] for frame in alice.outlet.frames][:1] == ["welcome"]
        assert not draining.done()
        alice.vanish(1000)
        await asyncio.wait_for(draining, 5)


async def test_who_ignores_it_is_served_up_to_the_deadline_and_closed_with_its_last_ack(place: Place) -> None:
    async with place(2, drain_s=1.0) as cluster:
        alice, _, session, _ = await couple(cluster)
        begun = cluster.nodes[0].clock.monotonic()
        draining = asyncio.create_task(cluster.nodes[0].drain())
        sent = 0
        while not draining.done():
            alice.say("send", id=f"c{sent}", session=session, content="m")
            sent += 1
            await turns(3)
        assert 1.0 <= cluster.nodes[0].clock.monotonic() - begun < 1.0 + FLUSH_LIMIT_S + 1
        assert alice.outlet.closed is not None
        assert alice.outlet.closed[0] == 4000
        head = (await cluster.log.standings([session]))[session].head
        assert len(acked(alice)) == head > 0


async def test_hurried_it_still_acks_what_it_has_taken(place: Place) -> None:
    async with place(2) as cluster:
        alice, _, session, _ = await couple(cluster)
        draining = asyncio.create_task(cluster.nodes[0].drain())
        await alice.next("migrate")
        cluster.logs[0].delay_s = 0.2
        for n in range(40):
            alice.say("send", id=f"c{n}", session=session, content="m")
        cluster.nodes[0].leaving.hurry()
        await asyncio.wait_for(draining, 5)
        assert await alice.closed() == 4000
        assert acked(alice) == {f"c{n}" for n in range(40)}


async def test_while_the_log_hangs_a_drain_ends_in_time_and_everybody_has_an_answer(place: Place) -> None:
    async with place(2, drain_s=0.5) as cluster:
        alice, _, session, _ = await couple(cluster)
        cluster.logs[0].hang()
        alice.say("send", id="c", session=session, content="m")
        begun = cluster.nodes[0].clock.monotonic()
        await cluster.nodes[0].drain()
        assert cluster.nodes[0].clock.monotonic() - begun < 0.5 + FLUSH_LIMIT_S + 1
        assert [frame["code"] for frame in alice.outlet.frames if frame.get("id") == "c"] == ["unavailable"]
        assert await alice.closed() == 4000


async def test_while_the_indexes_are_away_clients_are_asked_to_move_all_the_same(place: Place) -> None:
    async with place(2) as cluster:
        alice, _, session, _ = await couple(cluster)
        cluster.lives[0].go_away()
        draining = asyncio.create_task(cluster.nodes[0].drain())
        await alice.next("migrate")
        assert (await alice.send(session, "stored"))["seq"] == 1
        alice.vanish(1000)
        await asyncio.wait_for(draining, 5)


async def test_a_drain_that_is_cut_short_has_everybody_come_back_elsewhere(place: Place) -> None:
    async with place(2) as cluster:
        alice, _, _, token = await couple(cluster)
        draining = asyncio.create_task(cluster.nodes[0].drain())
        await alice.next("migrate")
        draining.cancel()
        await asyncio.wait([draining])
        assert await alice.closed() == 4000
        alice.vanish(4000)
        await flushed(cluster)
        again, _ = await resumed(cluster, 1, token)
        await again.next("live")


async def test_nodes_that_all_leave_at_once_keep_nobody_waiting(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "LEAD_S", 2.0)
    async with place(2) as cluster:
        alice, olga, session, _ = await couple(cluster)
        await alice.send(session, "the last word")
        await asyncio.wait_for(asyncio.gather(*(node.drain() for node in cluster.nodes)), 5)
        for node, client in zip(cluster.nodes, (alice, olga), strict=True):
            assert node.leaving.counts == {"moved": 0, "closed": 1, "left": 0}
            assert await client.closed() == 4000
            assert not any(frame["type"] == "migrate" for frame in client.outlet.frames)
