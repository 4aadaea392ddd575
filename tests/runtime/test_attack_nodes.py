"""What several nodes, late hints and stores that are away have been seen to do to each other."""

import asyncio
from pathlib import Path

import pytest

from gateway.auth.identity import Identity
from gateway.fanout import presence as presence_module
from gateway.runtime import leases as leases_module
from tests.runtime.nodes import nodes
from tests.runtime.test_many_nodes import events, pair
from tests.runtime.world import world
from tests.waiting import turns, until


async def test_a_removal_from_before_the_attach_turns_nobody_out(tmp_path: Path) -> None:
    async with nodes(tmp_path) as cluster:
        alice, bob, session = await pair(cluster)
        held: list[tuple[str, bytes]] = []
        bus = cluster.buses[1]
        hear = bus.hear
        bus.hear = lambda channel, payload: held.append((channel, payload))  # type: ignore[method-assign]
        assert alice.connection.identity is not None
        sessions = cluster.nodes[0].sessions
        await sessions.remove_member(alice.connection.identity, session, "bob")
        await sessions.put_member(alice.connection.identity, session, "bob", "writer")
        attached = await bob.ask("attach", session=session, since=0)
        assert attached["type"] == "attached"
        for each in held:
            hear(*each)
        bus.hear = hear  # type: ignore[method-assign]
        await turns(5)
        assert session in bob.connection.attachments, events(bob, session)
        assert ("deleted", 3) not in events(bob, session)
        assert (await bob.send(session, "here"))["type"] == "ack"


async def test_members_read_before_the_attach_turn_nobody_out(tmp_path: Path) -> None:
    async with nodes(tmp_path) as cluster:
        alice, bob, session = await pair(cluster)
        cluster.ether.loss = 1.0
        assert alice.connection.identity is not None
        sessions = cluster.nodes[0].sessions
        removed = await sessions.remove_member(alice.connection.identity, session, "bob")
        await sessions.put_member(alice.connection.identity, session, "bob", "reader")
        assert (await bob.ask("attach", session=session, since=0))["role"] == "reader"
        hub = cluster.nodes[1].hub
        hub.refresh(hub.rooms[session], removed, {"alice": "owner"})
        assert ("updated", removed.version) in events(bob, session)
        assert bob.connection.attachments[session].role == "reader"


async def test_life_shown_while_lives_are_extended_counts_too(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open(ttl=10)
        room = w.node.hub.rooms[session]
        await alice.ask("heartbeat", ts=1)
        room.expires_at = w.clock.now_ms()  # a while has passed since it was opened
        asked = []
        extend = w.node.log.extend

        async def slow(expiries: dict[str, int]) -> None:
            asked.append(expiries)
            await extend(expiries)
            await alice.ask("heartbeat", ts=1)

        w.node.log.extend = slow  # type: ignore[method-assign, assignment]
        await w.node.sweeper.tend(w.clock.monotonic())
        assert len(asked) == 1
        assert room.is_touched


async def test_departures_do_not_gather_without_end_while_the_indexes_are_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "WAITING_LIMIT", 100)
    async with nodes(tmp_path, 1) as cluster:
        cluster.lives[0].go_away()
        presence = cluster.nodes[0].presence
        for n in range(500):
            presence.left("t", f"s{n}", "bob")
        await presence.announce_leaves()
        assert len(presence._leaving) <= 100


async def test_a_node_that_stops_takes_all_its_connections_out_of_the_indexes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "BATCH", 2)
    async with nodes(tmp_path) as cluster:
        clients = [await cluster.client(0, f"u{n}") for n in range(7)]
        for client in clients:
            client.vanish()
        await cluster.nodes[0].stop()
        for n in range(7):
            assert await cluster.live.connections_of_user("default", f"u{n}") == []


async def test_who_attaches_to_a_session_about_to_expire_keeps_it_alive(tmp_path: Path) -> None:
    async with nodes(tmp_path) as cluster:
        alice = await cluster.client(0, "alice")
        session = await alice.open(ttl=60)
        alice.vanish()
        clock = cluster.worlds[1].clock
        opened_at, now_ms = clock.now_ms(), clock.now_ms
        clock.now_ms = lambda: now_ms() + 50_000  # type: ignore[method-assign]
        back = await cluster.client(1, "alice")
        assert (await back.ask("attach", session=session, since=0))["type"] == "attached"
        # Its first heartbeat may be 25 s away.
        await cluster.nodes[1].sweeper.tend(clock.monotonic())
        access = await cluster.log.access("default", session, "alice")
        assert access is not None
        assert access.session.expires_at is not None
        assert access.session.expires_at >= opened_at + 110_000


async def test_a_hello_whose_socket_goes_before_it_is_recognised_uses_nothing_up(tmp_path: Path) -> None:
    async with nodes(tmp_path) as cluster:
        old = cluster.worlds[0].connect()
        token = (await old.hello("alice"))["resume"]
        lost = cluster.worlds[0].connect()
        node, recognised = cluster.nodes[0], asyncio.Event()
        verify = node.tokens.verify

        async def slow(token: str) -> Identity:
            await recognised.wait()
            return await verify(token)

        node.tokens.verify = slow  # type: ignore[method-assign]
        lost.say("hello", token=lost.world.tokens.mint("alice"), resume=token)
        await turns(3)
        lost.vanish()
        recognised.set()
        await until(lambda: not lost.connection._is_busy)
        assert not old.connection.is_handed_over
        again = cluster.worlds[1].connect()
        assert (await again.hello("alice", resume=token))["resumed"] is True
