"""The indexes are true over several nodes: whoever moves, whoever goes, and while the store is away."""

import asyncio
from typing import Any

import pytest

from gateway.auth.tickets import digest
from gateway.protocol.close import CloseCode
from gateway.runtime import leases as leases_module
from store.errors import Unavailable
from tests.runtime.conftest import Place
from tests.runtime.nodes import Cluster
from tests.runtime.world import Client
from tests.waiting import turns, until


async def indexed(cluster: Cluster, user: str = "alice") -> list[str]:
    return [entry.id for entry in await cluster.live.connections_of_user("default", user)]


async def attached(cluster: Cluster, session: str) -> set[str]:
    return {entry.id for entry in await cluster.live.connections_of_session("default", session)}


async def flushed(cluster: Cluster) -> None:
    for node in cluster.nodes:
        await node.leases.flush()


async def resumed(cluster: Cluster, node: int, token: str, user: str = "alice") -> tuple[Client, str]:
    """A connection to a node that takes up another; and its own token."""
    client = cluster.worlds[node].connect()
    welcome = await client.hello(user, resume=token)
    assert welcome["resumed"] is True
    return client, welcome["resume"]


async def opened(cluster: Cluster, node: int, user: str = "alice") -> tuple[Client, str, str]:
    """A connection with a session of its own; and its token."""
    client = cluster.worlds[node].connect()
    token = (await client.hello(user))["resume"]
    session = await client.open()
    await flushed(cluster)
    return client, session, token


# -- who moves to another node


async def test_a_connection_that_was_resumed_elsewhere_is_not_asserted_any_more(place: Place) -> None:
    async with place(2) as cluster:
        old, session, token = await opened(cluster, 0)
        new, _ = await resumed(cluster, 1, token)
        await new.next("live")
        assert await indexed(cluster) == [new.connection.id]
        assert not old.connection.is_closed
        # Its own node hears of it when it would renew.
        cluster.nodes[0].leases.changed(old.connection)
        await flushed(cluster)
        assert old.connection.is_handed_over
        await flushed(cluster)
        assert await indexed(cluster) == [new.connection.id]
        assert await attached(cluster, session) == {new.connection.id}
        old.vanish()
        await flushed(cluster)
        assert await indexed(cluster) == [new.connection.id]


async def test_who_moves_to_and_fro_all_the_time_leaves_few_connections_behind(place: Place) -> None:
    async with place(2, connections_per_user=2) as cluster:
        client, _, token = await opened(cluster, 0)
        moving = [client]
        for turn in range(20):
            client, token = await resumed(cluster, 1 - turn % 2, token)
            moving.append(client)
        for world in cluster.worlds:
            # Neither node has heard yet of who has moved away from it.
            codes = [each.outlet.closed and each.outlet.closed[0] for each in moving if each.world is world]
            assert codes == [4000] * (len(codes) - 4) + [None] * 4


async def test_while_the_indexes_are_away_a_user_has_no_more_than_twice_the_limit(place: Place) -> None:
    async with place(1, connections_per_user=2) as cluster:
        cluster.lives[0].go_away()
        clients = [await cluster.client(0) for _ in range(5)]
        other = await cluster.client(0, "olga")
        assert await clients[0].closed() == 4000
        assert [each.outlet.closed for each in (*clients[1:], other)] == [None] * 5


async def test_the_token_of_who_was_handed_over_is_not_written_again_when_they_go(place: Place) -> None:
    async with place(1) as cluster:
        old, _, token = await opened(cluster, 0)
        new, its_own = await resumed(cluster, 0, token)
        await new.next("live")
        resumption, kept = cluster.nodes[0].resumption, list[str]()
        keep = resumption.keep

        async def watched(records: Any) -> set[str]:
            kept.extend(each for each, _ in records)
            return await keep(records)

        resumption.keep = watched  # type: ignore[method-assign]
        for client in (old, new):
            client.vanish(1000)
        await flushed(cluster)
        # Redis knows that it was used only for as long as it has its data.
        assert kept == [its_own]


async def test_an_assertion_that_was_late_for_a_move_is_taken_back(place: Place) -> None:
    async with place(2) as cluster:
        old, session, token = await opened(cluster, 0)
        late = old.connection.entry
        new, _ = await resumed(cluster, 1, token)
        await new.next("live")
        # Under way while the token was used, and so after the old connection was taken out.
        await cluster.nodes[0].live.assert_connections([late], lease_ms=75_000)
        assert await attached(cluster, session) == {old.connection.id, new.connection.id}
        cluster.nodes[0].leases.changed(old.connection)
        await flushed(cluster)
        assert await attached(cluster, session) == {new.connection.id}
        assert await indexed(cluster) == [new.connection.id]


async def test_a_connection_that_stepped_aside_has_the_time_of_a_move_left(place: Place) -> None:
    async with place(2, drain_s=10.0) as cluster:
        old, _, token = await opened(cluster, 0)
        await resumed(cluster, 1, token)
        cluster.nodes[0].leases.changed(old.connection)
        await flushed(cluster)
        now = cluster.nodes[0].clock.monotonic()
        old.connection.check(now + 9.0)
        assert old.outlet.closed is None
        old.connection.check(now + 11.0)
        assert await old.closed() == CloseCode.NODE_LEAVING


async def test_who_moves_from_node_to_node_stays_within_the_limit(place: Place) -> None:
    async with place(2, connections_per_user=1) as cluster:
        client, _, token = await opened(cluster, 0)
        for turn in range(1, 5):
            before = client
            client, token = await resumed(cluster, turn % 2, token)
            before.world.node.leases.changed(before.connection)
            await flushed(cluster)
            assert await indexed(cluster) == [client.connection.id]
        other = cluster.worlds[0].connect()
        assert (await other.hello())["type"] == "error"


async def test_a_token_that_was_used_elsewhere_is_not_good_again_whatever_its_node_writes(
    place: Place,
) -> None:
    async with place(2) as cluster:
        old, _, token = await opened(cluster, 0)
        await resumed(cluster, 1, token)
        old.vanish()
        await flushed(cluster)
        for node in range(2):
            assert (await cluster.worlds[node].connect().hello(resume=token))["resumed"] is False


# -- what is written, and when


async def test_a_quiet_heartbeat_writes_nothing_and_a_confirmation_only_the_record(place: Place) -> None:
    async with place(1) as cluster:
        alice, session, _ = await opened(cluster, 0)
        await alice.send(session, "one")
        await flushed(cluster)
        written: list[str] = []
        live = cluster.nodes[0].live

        def watch(name: str) -> None:
            method = getattr(live, name)

            async def watched(*given: Any, **more: Any) -> Any:
                written.append(name)
                return await method(*given, **more)

            setattr(live, name, watched)

        for name in ("assert_connections", "put_once", "forget"):
            watch(name)
        await alice.ask("heartbeat", ts=1)
        await flushed(cluster)
        assert written == []
        await alice.ask("heartbeat", ts=1, seen={session: 1})
        await flushed(cluster)
        assert written == ["put_once"]
        await alice.ask("heartbeat", ts=1, seen={session: 1})
        await flushed(cluster)
        assert written == ["put_once"]


async def test_what_has_not_changed_is_renewed_and_what_was_lost_is_put_again(place: Place) -> None:
    async with place(2) as cluster:
        alice, session, token = await opened(cluster, 0)
        leases, live = cluster.nodes[0].leases, cluster.nodes[0].live
        put: list[int] = []
        put_once = live.put_once

        async def watched(kind: Any, entries: Any, *, ttl_ms: int) -> set[str]:
            put.append(len(entries))
            return await put_once(kind, entries, ttl_ms=ttl_ms)

        live.put_once = watched  # type: ignore[method-assign]
        lease, kept = alice.connection.lease, alice.connection.kept
        for _ in range(2):
            leases.changed(alice.connection)
            await flushed(cluster)
        assert put == []
        assert (alice.connection.lease, alice.connection.kept) == (lease, kept)
        await alice.send(session, "one")
        await until(lambda: alice.messages(session) == [1])  # what was not delivered is not confirmed
        await alice.ask("heartbeat", ts=1, seen={session: 1})
        await flushed(cluster)
        assert put == [1]
        # As a failover may leave it.
        await cluster.live.put_once("resume", [(digest(token), b"an older one")], ttl_ms=60_000)
        leases.changed(alice.connection)
        await flushed(cluster)
        assert put == [1, 1]
        alice.vanish()
        await flushed(cluster)
        new, _ = await resumed(cluster, 1, token)
        assert (await new.next("attached"))["since"] == 1


async def test_whoever_goes_while_their_record_is_put_again_has_the_last_word(place: Place) -> None:
    async with place(2) as cluster:
        alice, session, token = await opened(cluster, 0)
        leases, live = cluster.nodes[0].leases, cluster.nodes[0].live
        renew = live.renew_once
        await cluster.nodes[0].tasks.stop()

        async def lost(kind: Any, entries: Any, *, ttl_ms: int) -> tuple[set[str], set[str]]:
            await renew(kind, entries, ttl_ms=ttl_ms)
            alice.vanish()
            await leases.settle(token)
            return set(), {each for each, _ in entries}

        live.renew_once = lost  # type: ignore[method-assign]
        leases.changed(alice.connection)
        await leases.flush()
        new, _ = await resumed(cluster, 1, token)
        assert (await new.next("attached"))["session"] == session


async def test_every_connection_is_asserted_again_with_its_heartbeat(place: Place) -> None:
    async with place(1, heartbeat_ms=20_000, is_fenced=False) as cluster:
        alice, _, _ = await opened(cluster, 0)
        leases, clock = cluster.nodes[0].leases, cluster.worlds[0].clock
        now = clock.monotonic()
        for beat in range(1, 4):
            clock.monotonic = lambda: now + beat * 20.0  # type: ignore[method-assign]  # noqa: B023
            await alice.ask("heartbeat", ts=1)
            assert list(leases._changed) == [alice.connection.id]
            await flushed(cluster)
            # And not with every frame of a client that heartbeats more often than it was told to.
            await alice.ask("heartbeat", ts=1)
            assert not leases._changed


async def test_whoever_says_anything_is_asserted_again_and_refreshing_puts_nothing_off(place: Place) -> None:
    async with place(1, heartbeat_ms=20_000, is_fenced=False) as cluster:
        alice, session, _ = await opened(cluster, 0)
        leases, clock, world = cluster.nodes[0].leases, cluster.worlds[0].clock, cluster.worlds[0]
        begun = clock.monotonic()
        await alice.ask("refresh", token=world.tokens.mint("alice"))
        for turn in range(1, 4):
            now = begun + turn * 10.1  # a moment after the next renewal is due
            clock.monotonic = lambda: now  # type: ignore[method-assign]  # noqa: B023
            await flushed(cluster)
            assert not leases._changed
            await alice.ask("refresh", token=world.tokens.mint("alice"))
            alice.say("send", id=f"c{turn}", session=session, content="no heartbeat")
            assert list(leases._changed) == [alice.connection.id]


async def test_renewals_keep_pace_with_a_short_resume_window(place: Place) -> None:
    async with place(1, heartbeat_ms=60_000, heartbeat_timeout_ms=180_000, resume_window_s=40.0) as cluster:
        alice, _, _ = await opened(cluster, 0)
        leases, now = cluster.nodes[0].leases, cluster.nodes[0].clock.monotonic()
        alice.connection.renew(now)
        await flushed(cluster)
        # The record of a session, and the mark of a token that was used elsewhere, live for the window.
        due = alice.connection.check(now)
        assert due <= now + 20.0
        alice.connection.check(due)
        assert list(leases._changed) == [alice.connection.id]


async def test_a_connection_that_does_not_heartbeat_is_asserted_well_before_its_lease_ends(
    place: Place,
) -> None:
    async with place(1, heartbeat_ms=20_000, heartbeat_timeout_ms=60_000) as cluster:
        alice, _, _ = await opened(cluster, 0)
        leases, now = cluster.nodes[0].leases, cluster.nodes[0].clock.monotonic()
        for turn in range(1, 4):
            due = alice.connection.check(now)
            assert due <= now + 0.9 * 60.0
            assert not leases._changed, turn
            now = due
            alice.connection.check(now)
            assert list(leases._changed) == [alice.connection.id]
            await flushed(cluster)


async def test_what_is_too_much_for_one_flush_is_written_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "BATCH", 3)
    async with place(1) as cluster:
        clients = [(await opened(cluster, 0, f"u{n}"))[0] for n in range(7)]
        leases = cluster.nodes[0].leases
        await cluster.nodes[0].tasks.stop()  # its own flushes would take some of them
        await cluster.live.forget([client.connection.entry for client in clients])
        for client in clients:
            leases.changed(client.connection)
        for left in (4, 1, 0):
            await leases.flush()
            assert len(leases._changed) == left
        for number, client in enumerate(clients):
            assert await indexed(cluster, f"u{number}") == [client.connection.id]
        for client in clients:
            client.vanish()
        for left in (4, 1, 0):
            await leases.flush()
            assert len(leases._departed) == left


async def test_the_record_of_a_session_is_written_when_there_is_news_else_with_the_heartbeats(
    place: Place,
) -> None:
    async with place(1, heartbeat_ms=20_000, sweep_s=1e6) as cluster:
        alice, session, _ = await opened(cluster, 0)
        sweeper, clock = cluster.nodes[0].sweeper, cluster.nodes[0].clock
        told: list[str] = []
        put = cluster.nodes[0].live.put_sessions

        async def watched(records: Any, *, lease_ms: int) -> None:
            told.extend(record.id for record in records)
            await put(records, lease_ms=lease_ms)

        cluster.nodes[0].live.put_sessions = watched  # type: ignore[method-assign]
        now = clock.monotonic()
        for _ in range(3):
            await sweeper.tend(now)
        assert told == [session]
        await alice.send(session, "one")
        for _ in range(3):
            await sweeper.tend(now)
        assert told == [session] * 2
        alice.connection.renew(now + 20.0)
        await sweeper.tend(now + 20.0)
        assert told == [session] * 3


# -- while the store is away


async def test_whoever_goes_while_the_indexes_are_away_is_taken_out_when_they_are_back(place: Place) -> None:
    async with place(2) as cluster:
        gone, session, token = await opened(cluster, 0)
        stays = await cluster.client(0)
        await stays.ask("attach", session=session)
        await flushed(cluster)
        cluster.lives[0].go_away()
        gone.vanish()
        with pytest.raises(Unavailable):
            await cluster.nodes[0].leases.flush()
        assert await attached(cluster, session) == {gone.connection.id, stays.connection.id}
        cluster.lives[0].come_back()
        await flushed(cluster)
        assert await attached(cluster, session) == {stays.connection.id}
        # And its token is good, on another node as well.
        await resumed(cluster, 1, token)


async def test_a_flush_that_meets_a_store_that_is_away_asks_it_once(place: Place) -> None:
    async with place(1) as cluster:
        clients = [(await opened(cluster, 0, f"u{n}"))[0] for n in range(20)]
        await cluster.live.forget([client.connection.entry for client in clients[:10]])
        for client in clients[:10]:
            cluster.nodes[0].leases.changed(client.connection)
        for client in clients[10:]:
            client.vanish()
        live = cluster.lives[0]
        live.go_away()
        before = live.asked
        with pytest.raises(Unavailable):
            await cluster.nodes[0].leases.flush()
        # Entries and resume records of those who are here and of those who went, all at the same time: one
        # time limit.
        assert live.asked - before == 4
        live.come_back()
        await flushed(cluster)
        for number, client in enumerate(clients):
            expected = [client.connection.id] if number < 10 else []
            assert await indexed(cluster, f"u{number}") == expected


async def test_a_flush_that_is_cut_short_leaves_everything_to_the_next(place: Place) -> None:
    async with place(1) as cluster:
        (alice, _, _), (bob, _, _) = await opened(cluster, 0), await opened(cluster, 0, "bob")
        node = cluster.nodes[0]
        await cluster.live.forget([alice.connection.entry])
        node.leases.changed(alice.connection)
        bob.vanish()
        await node.tasks.stop()
        cluster.lives[0].hang()
        flush = asyncio.ensure_future(node.leases.flush())
        await turns(5)
        flush.cancel()
        await asyncio.gather(flush, return_exceptions=True)
        cluster.lives[0].come_back()
        await flushed(cluster)
        assert await indexed(cluster) == [alice.connection.id]
        assert await indexed(cluster, "bob") == []


async def test_too_many_that_have_gone_are_left_to_expire(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "DEPARTED_LIMIT", 5)
    async with place(1) as cluster:
        clients = [(await opened(cluster, 0, f"u{n}"))[0] for n in range(8)]
        cluster.lives[0].go_away()
        for client in clients:
            client.vanish()
        assert len(cluster.nodes[0].leases._departed) == 5
        assert len(cluster.nodes[0].leases._unwritten) == 5
        cluster.lives[0].come_back()
        await flushed(cluster)
        assert [bool(await indexed(cluster, f"u{n}")) for n in range(8)] == [True] * 3 + [False] * 5
